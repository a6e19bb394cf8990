use proptest::prelude::*;

use super::*;
use crate::manifests::decode::{Format, decode};

fn node(name: &str, zone: u8) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: \"{zone}\"}}}}\n---\n"
    )
}

fn read(text: &str) -> Update {
    Update::Read { decoded: decode(Format::Yaml, text.as_bytes()), blank: text.trim().is_empty() }
}

fn words(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Apply { object, .. } => format!("+{}", object.key().name),
        Change::Delete { key, .. } => format!("-{}", key.name),
        other => format!("{other:?}"),
    };
    changes.iter().map(word).collect()
}

#[test]
fn an_object_that_moves_is_not_deleted() {
    let mut files = ClusterFiles::new("east".into());
    assert_eq!(words(&files.apply(vec![("a".into(), read(&(node("n", 1) + &node("m", 1))))])), ["+m", "+n"]);
    let changes = files.apply(vec![("a".into(), read(&node("m", 1))), ("b".into(), read(&node("n", 1)))]);
    assert_eq!(words(&changes), [] as [&str; 0]);
    let changes = files.apply(vec![("a".into(), Update::Gone), ("c".into(), read(&node("m", 2)))]);
    assert_eq!(words(&changes), ["+m"]);
    assert_eq!(words(&files.apply(vec![("b".into(), Update::Gone), ("c".into(), Update::Gone)])), ["-m", "-n"]);
    assert_eq!((files.len(), files.objects()), (0, 0));
}

#[test]
fn a_broken_file_stays_as_it_was_until_it_goes() {
    let mut files = ClusterFiles::new("east".into());
    files.apply(vec![("a".into(), read(&node("n", 1)))]);
    for broken in ["kind: [", "kind: Node\n", " \n"] {
        assert_eq!(words(&files.apply(vec![("a".into(), read(broken))])), [] as [&str; 0]);
        assert_eq!((files.problems().len(), files.last_good(), files.is_good("a")), (1, 1, false));
    }
    let problem = &files.problems()[0];
    assert_eq!((problem.file.as_deref(), problem.line), (Some("east/a"), None));
    assert_eq!(words(&files.apply(vec![("a".into(), Update::Gone)])), ["-n"]);
    assert_eq!(files.problems(), []);
    // A new file that is broken has nothing to stand with, and a new empty one is no mistake.
    files.apply(vec![("a".into(), read("kind: [")), ("b".into(), read(""))]);
    assert_eq!((files.problems().len(), files.last_good()), (1, 0));
}

/// What happens to a file in the test of the model.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, u8)>),
    Break,
    Remove,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::btree_map(0..4u8, 0..3u8, 0..4).prop_map(|map| Step::Write(map.into_iter().collect())),
        1 => Just(Step::Break),
        2 => Just(Step::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever follows the changes has, after each, the objects of all files, the first file's
    /// where several have one; and is told nothing that it knows.
    #[test]
    fn changes_lead_to_what_the_files_say(steps in prop::collection::vec(prop::collection::vec((0..3u8, step()), 1..4), 1..12)) {
        let mut files = ClusterFiles::new("east".into());
        let mut model: BTreeMap<u8, BTreeMap<String, u8>> = BTreeMap::new();
        let mut follower: BTreeMap<String, u8> = BTreeMap::new();
        for batch in steps {
            let mut updates = Vec::new();
            for (file, step) in batch {
                let path: Arc<str> = Arc::from(file.to_string());
                match step {
                    Step::Write(nodes) => {
                        let text: String = nodes.iter().map(|(n, zone)| node(&format!("n{n}"), *zone)).collect();
                        updates.push((path, read(&(text + "# not blank\n"))));
                        model.insert(file, nodes.iter().map(|(n, zone)| (format!("n{n}"), *zone)).collect());
                    }
                    Step::Break => updates.push((path, read("]"))),
                    Step::Remove => {
                        updates.push((path, Update::Gone));
                        model.remove(&file);
                    }
                }
            }
            for change in files.apply(updates) {
                match change {
                    Change::Apply { object, .. } => {
                        let Object::Node(node) = *object else { panic!("no node") };
                        let zone: u8 = node.locality.zone.parse().unwrap();
                        prop_assert_ne!(follower.insert(node.name.to_string(), zone), Some(zone));
                    }
                    Change::Delete { key, .. } => prop_assert!(follower.remove(key.name.as_ref()).is_some()),
                    other => panic!("{other:?}"),
                }
            }
            let wanted: BTreeMap<String, u8> =
                model.values().rev().flat_map(|nodes| nodes.iter().map(|(n, z)| (n.clone(), *z))).collect();
            prop_assert_eq!(&follower, &wanted);
            let holders = |name: &String| model.values().filter(|nodes| nodes.contains_key(name)).count();
            let doubles: usize = wanted.keys().map(|name| holders(name) - 1).sum();
            let told = files.problems().iter().filter(|p| p.field == "metadata.name").count();
            prop_assert_eq!(told, doubles);
        }
    }
}
