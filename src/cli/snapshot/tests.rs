use super::create::parse as parse_file;
use super::edit::{Change, apply};
use super::pod;
use crate::kube::kinds::SnapshotPod;

#[test]
fn pods_are_read() {
    let text = "name=vm-1,address=10.1.2.3,address=fd00::3,port=http:8080,port=9090,weight=3,drain,ready=false,zone=a,region=eu,node=n";
    let pod = pod::parse(text).unwrap();
    assert_eq!(
        (pod.name.as_str(), pod.addresses.as_slice()),
        ("vm-1", &["10.1.2.3".to_owned(), "fd00::3".to_owned()][..])
    );
    assert_eq!((pod.ports["http"], pod.ports[""]), (8080, 9090));
    assert_eq!((pod.weight, pod.drain, pod.ready), (Some(3), Some(true), Some(false)));
    assert_eq!((pod.zone.as_deref(), pod.region.as_deref(), pod.node.as_deref()), (Some("a"), Some("eu"), Some("n")));
    let weighed = SnapshotPod { name: "a".to_owned(), weight: Some(2), drain: Some(false), ..SnapshotPod::default() };
    assert_eq!(pod::parse(&pod::written(&weighed)), Ok(weighed));
}

#[test]
fn what_is_no_pod_is_refused() {
    for (text, part) in [
        ("", "name is missing"),
        ("address=10.0.0.1", "name is missing"),
        ("name", "has no value"),
        ("name=a,address=host", "`host` is no IP address"),
        ("name=a,port=http", "port=http:8080"),
        ("name=a,port=http:0", "port=http:8080"),
        ("name=a,port=http:70000", "port=http:8080"),
        ("name=a,port=1,port=2", "twice"),
        ("name=a,name=b", "twice"),
        ("name=a,weight=0", "from 1 to 1000"),
        ("name=a,weight=1001", "from 1 to 1000"),
        ("name=a,drain=yes", "drain=true"),
        ("name=a,adress=10.0.0.1", "did you mean `address`?"),
        ("name=a,colour=red", "is not known"),
    ] {
        let fault = pod::parse(text).unwrap_err();
        assert!(fault.contains(part), "{text}: {fault}");
    }
}

#[test]
fn flags_change_one_pod() {
    let named = |name: &str| SnapshotPod { name: name.to_owned(), ..SnapshotPod::default() };
    let mut pods = vec![named("a"), SnapshotPod { weight: Some(5), ..named("b") }];
    let set =
        |name: &str, adds| Change::Set { name: name.to_owned(), weight: None, drain: Some(true), ready: None, adds };
    apply(&set("b", false), &mut pods).unwrap();
    assert_eq!((pods[1].drain, pods[1].weight, pods[0].drain), (Some(true), Some(5), None));
    assert!(apply(&set("c", false), &mut pods).unwrap_err().contains("no pod `c`, but a,b"));
    apply(&set("c", true), &mut pods).unwrap();
    assert_eq!(pods[2].drain, Some(true));
    apply(&Change::Remove("a".to_owned()), &mut pods).unwrap();
    assert_eq!(pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert!(apply(&Change::Remove("a".to_owned()), &mut pods).is_err());
}

#[test]
fn files_hold_entries_of_users() {
    let entry = |spec: &str| {
        format!("apiVersion: causeway.dev/v1alpha1\nkind: EndpointSnapshot\nmetadata: {{name: a}}\nspec: {spec}\n")
    };
    let two = format!("---\n{}---\n{}", entry("{access: a}"), entry("{access: b, pods: [{name: p}]}"));
    assert_eq!(parse_file(&two).unwrap().len(), 2);
    for (text, part) in [
        (String::new(), "no EndpointSnapshot"),
        ("kind: Service".to_owned(), "document 1: it is of kind `Service`"),
        (entry("{access: a, owner: System}"), "spec.owner is System"),
        (entry("{access: a, pods: [{name: p, wieght: 3}]}"), "wieght"),
        (entry("{pods: []}"), "access"),
        ("a: [".to_owned(), "document 1"),
    ] {
        let error = format!("{:#}", parse_file(&text).unwrap_err());
        assert!(error.contains(part), "{text}: {error}");
    }
}
