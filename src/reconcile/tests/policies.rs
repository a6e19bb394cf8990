//! What accesses ask of policies, and what they have when they cannot have it.

use super::build::*;
use super::rig::Rig;
use crate::model::object::{Access, Object, Protocol};

#[tokio::test]
async fn what_cannot_be_had_is_said_and_leaves_what_was_had() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let asking = |name: Option<&str>, config: serde_json::Value| {
        let mut access: Access = access("web");
        access.load_balancing.name = name.map(Into::into);
        access.load_balancing.config = config;
        put("primary", Object::Access(access))
    };
    let mut changes = vec![put("primary", service("web", Protocol::Http)), synced("primary")];
    changes.push(asking(None, serde_json::json!({"algorithm": "Random"})));
    rig.changes(changes).await;
    let accepted = async || {
        let row = rig.access("web").await;
        let condition = row.conditions.into_iter().find(|condition| condition.kind == "Accepted").unwrap();
        format!("{}: {}", condition.reason, condition.message)
    };
    assert_eq!(accepted().await, "Accepted: ");
    for (name, config, said) in [
        (
            None,
            serde_json::json!({"algoritm": "Random"}),
            "PolicyConfigInvalid: spec.policies.loadBalancing: `lb-locality` refuses its configuration: it says: ",
        ),
        (
            None,
            serde_json::json!({"panicThresholdPercent": 101}),
            "PolicyConfigInvalid: spec.policies.loadBalancing: `lb-locality` refuses",
        ),
        (
            Some("mine"),
            serde_json::json!({}),
            "PolicyNotFound: spec.policies.loadBalancing: there is no policy `mine`; there are `lb-locality`",
        ),
        (
            Some("vip-sticky"),
            serde_json::json!({}),
            "PolicyNotFound: spec.policies.loadBalancing: `vip-sticky` is of the world vip-policy, not lb-policy",
        ),
    ] {
        rig.changes(vec![asking(name, config.clone())]).await;
        let told = accepted().await;
        assert!(told.starts_with(said), "{config}: {told}");
        if let Some(setting) = config.as_object().and_then(|settings| settings.keys().next()) {
            assert!(told.contains(setting), "it names the setting: {told}");
        }
        assert!(rig.status().await.problems.iter().any(|problem| problem.field == "spec.policies.loadBalancing"));
    }
    rig.changes(vec![asking(Some("lb-locality"), serde_json::Value::Null)]).await;
    assert_eq!(accepted().await, "Accepted: ");
    rig.stop().await;
}
