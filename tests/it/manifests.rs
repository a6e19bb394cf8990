//! Folders of manifests as a live source: real files, real notices.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use causeway::manifests::{
    Forgotten, Format, GoodFile, InMemory, LastGood, Problem, Report, Saved, Settings, Source, decode, start,
};
use causeway::model::id::{ClusterName, NamespacedName};
use causeway::model::object::{Change, Object, ObjectKey, ObjectKind, Protocol};
use tokio::sync::mpsc;

/// What no test waits longer for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A source at work on a temporary folder, and what it told so far.
pub struct Bench {
    pub root: tempfile::TempDir,
    pub source: Source,
    pub kept: Arc<InMemory>,
    changes: mpsc::Receiver<Vec<Change>>,
    objects: BTreeMap<(ClusterName, ObjectKey), Object>,
    states: BTreeMap<ClusterName, &'static str>,
    /// Every change, in words, as it came.
    log: Vec<String>,
}

impl Bench {
    /// Starts a source on files given by path and content.
    pub async fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        write_all(root.path(), files);
        Self::over(root, Arc::default()).await
    }

    /// Starts a source on a folder that is there already.
    pub async fn over(root: tempfile::TempDir, kept: Arc<InMemory>) -> Self {
        let (sender, changes) = mpsc::channel(64);
        let source = start(Settings::new(root.path()), kept.clone(), sender).await.expect("the source starts");
        let expected = source.expected.len();
        let mut bench =
            Self { root, source, kept, changes, objects: BTreeMap::new(), states: BTreeMap::new(), log: Vec::new() };
        bench.until("every folder is read", |b| b.states.len() >= expected).await;
        // The report follows the changes.
        bench.until_report("every folder is told of", |r| r.folders.len() >= expected).await;
        bench.log.clear();
        bench
    }

    fn fold(&mut self, batch: Vec<Change>) {
        for change in batch {
            match change {
                Change::Apply { cluster, object } => {
                    self.log.push(format!("+{cluster} {}", object.key()));
                    self.objects.insert((cluster, object.key()), *object);
                }
                Change::Delete { cluster, key } => {
                    self.log.push(format!("-{cluster} {key}"));
                    assert!(self.objects.remove(&(cluster, key)).is_some(), "deleted what was not there");
                }
                Change::Synced { cluster } => {
                    self.log.push(format!("{cluster} synced"));
                    self.states.insert(cluster, "synced");
                }
                Change::Unknown { cluster, .. } => {
                    self.log.push(format!("{cluster} unknown"));
                    self.states.insert(cluster, "unknown");
                }
                Change::Forget { cluster } => {
                    self.log.push(format!("{cluster} forgotten"));
                    self.objects.retain(|(c, _), _| *c != cluster);
                    self.states.remove(&cluster);
                }
            }
        }
    }

    /// Takes in changes until the condition holds; gives how long that took.
    pub async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !condition(self) {
            let batch = tokio::time::timeout(PATIENCE, self.changes.recv()).await;
            let batch = batch.unwrap_or_else(|_| panic!("waited in vain until {what}; so far: {:#?}", self.log));
            self.fold(batch.expect("the source works"));
        }
        began.elapsed()
    }

    /// Takes in what comes within some time.
    pub async fn for_a_while(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while let Ok(Some(batch)) = tokio::time::timeout_at(end, self.changes.recv()).await {
            self.fold(batch);
        }
    }

    /// Waits for a report.
    pub async fn until_report(&self, what: &str, condition: impl Fn(&Report) -> bool) -> Arc<Report> {
        let mut reports = self.source.report.clone();
        let wait = reports.wait_for(|report| condition(report));
        if let Ok(report) = tokio::time::timeout(PATIENCE, wait).await {
            return report.expect("the source works").clone();
        }
        panic!("waited in vain until {what}; {:#?}", self.source.report.borrow())
    }

    /// Names of a cluster's objects of a kind.
    pub fn names(&self, cluster: &str, kind: ObjectKind) -> Vec<String> {
        let of = |(c, key): &&(ClusterName, ObjectKey)| c.as_str() == cluster && key.kind == kind;
        self.objects.keys().filter(of).map(|(_, key)| key.name.to_string()).collect()
    }

    /// Every change since the start, in words.
    pub fn log(&self) -> &[String] {
        &self.log
    }

    fn services(&self) -> Vec<String> {
        self.names("east", ObjectKind::Service)
    }

    fn port(&self, name: &str) -> u16 {
        let key = ObjectKey { kind: ObjectKind::Service, namespace: "shop".into(), name: name.into() };
        match self.objects.get(&("east".into(), key)) {
            Some(Object::Service(service)) => service.ports[0].port,
            _ => 0,
        }
    }

    /// Writes a file below the folder.
    pub fn write(&self, path: &str, content: &str) {
        write_all(self.root.path(), &[(path, content)]);
    }

    fn state(&self) -> &'static str {
        self.states.get("east").copied().unwrap_or("nothing")
    }
}

pub fn write_all(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
        fs::write(path, content).expect("the file is written");
    }
}

/// A Service with one port.
pub fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: {name}}}\n\
         spec:\n  ports:\n  - port: {port}\n    name: http\n---\n"
    )
}

#[test]
fn a_real_clusters_dump_loads_without_any_problem() {
    let dump = include_bytes!("../fixtures/kubectl-get-all-namespaces.yaml");
    let decoded = decode(Format::Yaml, dump);
    assert_eq!(decoded.findings, []);
    assert_eq!(decoded.warnings, []);
    let find = |kind, name: &str| {
        let found = decoded.objects.iter().find(|o| o.object.key().kind == kind && &*o.object.key().name == name);
        found.unwrap_or_else(|| panic!("no {name}")).object.as_ref().clone()
    };
    let Object::Service(checkout) = find(ObjectKind::Service, "checkout") else { panic!("no service") };
    assert_eq!(checkout.id, NamespacedName::new("shop", "checkout"));
    assert_eq!(checkout.created_at, 1_775_919_727);
    let ports: Vec<_> = checkout.ports.iter().map(|p| (&*p.name, p.port, p.protocol)).collect();
    assert_eq!(ports, [("api", 80, Protocol::H2c), ("http-admin", 8081, Protocol::Http)]);
    let Object::Service(cassandra) = find(ObjectKind::Service, "cassandra") else { panic!("no service") };
    assert!(cassandra.headless);
    let Object::Service(dns) = find(ObjectKind::Service, "kube-dns") else { panic!("no service") };
    assert_eq!(dns.ports.len(), 2);
    let Object::Slice(slice) = find(ObjectKind::EndpointSlice, "checkout-x2k4p") else { panic!("no slice") };
    let states: Vec<_> = slice.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(states, [(true, true, false), (false, true, true)]);
    assert_eq!(slice.endpoints[0].pod.as_deref(), Some("checkout-7d9fbc9c9b-abcde"));
    let Object::Slice(peers) = find(ObjectKind::EndpointSlice, "peers-abc") else { panic!("no slice") };
    assert!(peers.endpoints[0].ready && peers.endpoints[0].serving && peers.ports.is_empty());
    let Object::Pod(pod) = find(ObjectKind::Pod, "checkout-7d9fbc9c9b-abcde") else { panic!("no pod") };
    assert_eq!((pod.weight, pod.ready, pod.addresses.len()), (250, true, 2));
    let Object::Node(node) = find(ObjectKind::Node, "east-worker") else { panic!("no node") };
    assert_eq!((&*node.locality.region, &*node.locality.zone), ("eu-1", "eu-1a"));

    let left_out: Vec<_> = decoded.left_out.0.iter().map(|(what, (count, _))| (&**what, *count)).collect();
    assert_eq!(
        left_out,
        [
            ("EndpointSlices of host names (addressType FQDN)", 1),
            ("EndpointSlices without the label kubernetes.io/service-name", 1),
            ("Services of type ExternalName, which have no endpoints", 1),
            ("objects of kind ConfigMap", 1),
            ("ports of EndpointSlices without a number", 1),
            ("ports that are not TCP", 4),
        ]
    );
}

#[test]
fn exports_are_read_in_both_versions_and_what_no_import_can_have_is_told() {
    let export = |version: &str, name: &str, spec: &str| {
        format!(
            "apiVersion: multicluster.x-k8s.io/{version}\nkind: ServiceExport\nmetadata: {{namespace: shop, name: {name}, generation: \
             3, creationTimestamp: \"2026-01-02T03:04:05Z\"}}\n{spec}---\n"
        )
    };
    let said = "spec: {exportedLabels: {team: shop, bad: 'a b'}, exportedAnnotations: {example.com/note: any text}}\n";
    let import =
        "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceImport\nmetadata: {namespace: shop, name: a}\n";
    let text = export("v1beta1", "a", said) + &export("v1alpha1", "b", "status: {conditions: []}\n") + import;
    let decoded = decode(Format::Yaml, text.as_bytes());
    assert_eq!(decoded.findings, []);
    let [warning] = decoded.warnings.as_slice() else { panic!("{:?}", decoded.warnings) };
    assert_eq!((&*warning.object, &*warning.field), ("ServiceExport shop/a", "spec.exportedLabels[bad]"));
    let exports: Vec<_> = decoded
        .objects
        .iter()
        .map(|loaded| match &*loaded.object {
            Object::Export(export) => export,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(exports.iter().map(|e| &*e.id.name).collect::<Vec<_>>(), ["a", "b"]);
    assert!(exports.iter().all(|export| (export.created_at, export.generation) == (1_767_323_045, 3)));
    assert_eq!(exports[0].labels, [("team".into(), "shop".into())].into());
    assert_eq!(exports[0].annotations, [("example.com/note".into(), "any text".into())].into());
    assert!(exports[1].labels.is_empty() && exports[1].annotations.is_empty());
    let left_out: Vec<_> = decoded.left_out.0.keys().map(|what| &**what).collect();
    assert_eq!(left_out, ["objects of kind ServiceImport"]);
}

#[test]
fn the_same_dump_in_json_is_the_same() {
    let dump = include_str!("../fixtures/kubectl-get-all-namespaces.yaml");
    let value: serde_json::Value = serde_yaml_ng::from_str(dump).expect("YAML");
    let json = serde_json::to_vec_pretty(&value).expect("JSON");
    let yaml = decode(Format::Yaml, dump.as_bytes());
    for format in [Format::Json, Format::Yaml] {
        let read = decode(format, &json);
        assert_eq!(read.findings, []);
        let objects =
            |all: &causeway::manifests::Decoded| -> Vec<_> { all.objects.iter().map(|o| o.object.clone()).collect() };
        assert_eq!(objects(&read), objects(&yaml));
    }
}

#[tokio::test]
async fn an_edit_is_told_within_a_tenth_of_a_second() {
    let mut bench = Bench::new(&[("east/a.yaml", &service("web", 80))]).await;
    let mut times = Vec::new();
    for port in 81..91 {
        bench.write("east/a.yaml", &service("web", port));
        times.push(bench.until("the edit is told", |b| b.port("web") == port).await);
    }
    times.sort();
    // The median: the machine of the tests may be busy.
    assert!(times[5] < Duration::from_millis(100), "{times:?}");
    assert!(bench.log.iter().all(|line| line == "+east Service shop/web"), "{:?}", bench.log);
}

#[tokio::test]
async fn writing_the_same_again_tells_nothing() {
    let mut bench = Bench::new(&[("east/a.yaml", &service("web", 80))]).await;
    bench.write("east/a.yaml", &service("web", 80));
    bench.write("east/a.yaml", &format!("# a remark\n{}", service("web", 80)));
    bench.for_a_while(Duration::from_millis(400)).await;
    assert_eq!(bench.log, [] as [&str; 0]);
}

#[tokio::test]
async fn files_and_folders_come_and_go() {
    let mut bench = Bench::new(&[("east/a.yaml", &service("web", 80))]).await;
    bench.write("east/deep/er/b.yml", &service("api", 80));
    bench.until("a new folder's file is read", |b| b.services() == ["api", "web"]).await;
    bench.write("west/c.json", r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"}}"#);
    bench.until("a new cluster is there", |b| b.states.contains_key("west")).await;
    assert_eq!(bench.names("west", ObjectKind::Node), ["n1"]);
    fs::remove_file(bench.root.path().join("east/a.yaml")).expect("removed");
    bench.until("the file's object is gone", |b| b.services() == ["api"]).await;
    fs::remove_file(bench.root.path().join("east/deep/er/b.yml")).expect("removed");
    bench.until("the last object is gone", |b| b.services().is_empty()).await;
    assert_eq!(bench.state(), "synced");
}

#[tokio::test]
async fn editors_renames_never_delete() {
    let mut bench = Bench::new(&[("east/a.yaml", &service("web", 80))]).await;
    let path = |name: &str| bench.root.path().join("east").join(name);
    let (file, backup, new) = (path("a.yaml"), path("a.yaml~"), path(".a.yaml.swp"));
    // As vi does: the file becomes its own backup, and a new one is made.
    fs::rename(&file, &backup).expect("renamed");
    std::thread::sleep(Duration::from_millis(60));
    fs::write(&file, service("web", 81)).expect("written");
    fs::remove_file(&backup).expect("removed");
    bench.until("the new file is read", |b| b.port("web") == 81).await;
    // As most others do: a new file takes the old one's place.
    fs::write(&new, service("web", 82)).expect("written");
    fs::rename(&new, &file).expect("renamed");
    bench.until("the new file is read", |b| b.port("web") == 82).await;
    // An object moves to another file.
    fs::rename(&file, path_of(&bench, "z.yaml")).expect("renamed");
    bench.for_a_while(Duration::from_millis(600)).await;
    assert!(bench.log.iter().all(|line| line == "+east Service shop/web"), "{:?}", bench.log);
    assert_eq!(bench.services(), ["web"]);
}

fn path_of(bench: &Bench, name: &str) -> std::path::PathBuf {
    bench.root.path().join("east").join(name)
}

#[tokio::test]
async fn a_config_maps_swap_of_links_is_one_change() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let east = root.path().join("east");
    write_all(&east, &[("..2026_1/a.yaml", &service("web", 80)), ("..2026_1/b.yaml", &service("api", 80))]);
    symlink("..2026_1", east.join("..data")).expect("linked");
    symlink("..data/a.yaml", east.join("a.yaml")).expect("linked");
    symlink("..data/b.yaml", east.join("b.yaml")).expect("linked");
    let mut bench = Bench::over(root, Arc::default()).await;
    assert_eq!(bench.services(), ["api", "web"]);
    write_all(&east, &[("..2026_2/a.yaml", &service("web", 81)), ("..2026_2/b.yaml", &service("api", 81))]);
    symlink("..2026_2", east.join("..data_tmp")).expect("linked");
    fs::rename(east.join("..data_tmp"), east.join("..data")).expect("swapped");
    fs::remove_dir_all(east.join("..2026_1")).expect("removed");
    let took = bench.until("both are told", |b| b.port("web") == 81 && b.port("api") == 81).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(bench.log, ["+east Service shop/api", "+east Service shop/web"]);
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_content_as_a_whole() {
    let both = format!("{}{}", service("api", 80), service("web", 80));
    let mut bench = Bench::new(&[("east/a.yaml", &both), ("east/b.yaml", &service("db", 80))]).await;
    // One of the two is good, and even so nothing of the file is taken.
    bench.write("east/a.yaml", &format!("{}{}", service("api", 99), service("web", 0)));
    let report = bench.until_report("the file is told as broken", |r| r.problems.len() == 1).await;
    let problem = &report.problems[0];
    assert_eq!(problem.file.as_deref(), Some("east/a.yaml"));
    assert_eq!(problem.line, Some(14));
    assert_eq!(problem.object, "Service shop/web");
    assert_eq!(problem.field, "spec.ports[0].port");
    assert!(problem.message.contains("0 is no port number"), "{problem:?}");
    assert!(problem.message.contains("last good content stays in use"), "{problem:?}");
    assert_eq!(report.folders[&ClusterName::from("east")].last_good_files, 1);
    // Files beside it go on.
    bench.write("east/b.yaml", &service("db", 81));
    bench.until("the other file is read", |b| b.port("db") == 81).await;
    assert_eq!((bench.port("api"), bench.port("web")), (80, 80));
    bench.write("east/a.yaml", &both);
    bench.until_report("the file is good again", |r| r.problems.is_empty()).await;
    assert_eq!(bench.log, ["+east Service shop/db"]);
}

#[tokio::test]
async fn an_emptied_file_deletes_nothing_and_a_commented_one_does() {
    let mut bench = Bench::new(&[("east/a.yaml", &service("web", 80))]).await;
    bench.write("east/a.yaml", "\n");
    let report = bench.until_report("it is told", |r| r.problems.len() == 1).await;
    assert!(report.problems[0].message.contains("the file is empty"), "{report:?}");
    assert_eq!(bench.services(), ["web"]);
    bench.write("east/a.yaml", "# nothing on purpose\n");
    bench.until("it is gone", |b| b.services().is_empty()).await;
    bench.until_report("it is mended", |r| r.problems.is_empty()).await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_waited_for() {
    use std::io::Write;
    let mut bench = Bench::new(&[("east/a.yaml", &format!("{}{}", service("api", 80), service("web", 80)))]).await;
    let mut file = fs::File::create(path_of(&bench, "a.yaml")).expect("opened");
    file.write_all(service("api", 81).as_bytes()).expect("written");
    // What is there now is valid, and lacks `web`.
    bench.for_a_while(Duration::from_millis(500)).await;
    assert_eq!(bench.log, [] as [&str; 0]);
    file.write_all(service("web", 81).as_bytes()).expect("written");
    drop(file);
    bench.until("the whole file is read", |b| b.port("web") == 81).await;
    assert_eq!(bench.log, ["+east Service shop/api", "+east Service shop/web"]);
}

#[tokio::test]
async fn an_object_of_two_files_is_the_first_ones() {
    let mut bench = Bench::new(&[("east/b.yaml", &service("web", 82)), ("east/a.yaml", &service("web", 81))]).await;
    assert_eq!(bench.port("web"), 81);
    let report = bench.until_report("it is told", |r| r.problems.len() == 1).await;
    let problem = &report.problems[0];
    assert_eq!(problem.file.as_deref(), Some("east/b.yaml"));
    assert_eq!(problem.object, "Service shop/web");
    assert!(problem.message.contains("`east/a.yaml` too, on line 1"), "{problem:?}");
    // The first goes, the second counts; nothing is deleted in between.
    fs::remove_file(path_of(&bench, "a.yaml")).expect("removed");
    bench.until("the second file counts", |b| b.port("web") == 82).await;
    bench.until_report("it is mended", |r| r.problems.is_empty()).await;
    assert_eq!(bench.log, ["+east Service shop/web"]);
}

#[tokio::test]
async fn a_folder_that_vanishes_is_unknown_and_deletes_nothing() {
    let mut bench = Bench::new(&[("east/a.yaml", &service("web", 80)), ("west/a.yaml", &service("web", 80))]).await;
    let away = bench.root.path().join(".away");
    fs::rename(bench.root.path().join("east"), &away).expect("renamed");
    bench.until("it is unknown", |b| b.state() == "unknown").await;
    assert_eq!(bench.log, ["east unknown"]);
    assert_eq!(bench.services(), ["web"]);
    bench.until_report("it is told", |r| r.problems.iter().any(|p| p.message.contains("is gone"))).await;
    fs::write(away.join("a.yaml"), service("web", 81)).expect("written");
    fs::rename(&away, bench.root.path().join("east")).expect("renamed");
    bench.until("it is back", |b| b.state() == "synced").await;
    assert_eq!(bench.log, ["east unknown", "+east Service shop/web", "east synced"]);
    // And it is watched again.
    bench.write("east/a.yaml", &service("web", 82));
    let took = bench.until("it is watched", |b| b.port("web") == 82).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_bare_mount_point_is_unknown_and_deletes_nothing() {
    let mut bench = Bench::new(&[("east/a.yaml", &service("web", 80))]).await;
    // What is seen when a volume is unmounted: another folder of the same name, without files.
    fs::create_dir(bench.root.path().join(".bare")).expect("made");
    fs::rename(bench.root.path().join("east"), bench.root.path().join(".volume")).expect("renamed");
    fs::rename(bench.root.path().join(".bare"), bench.root.path().join("east")).expect("renamed");
    bench.until("it is unknown", |b| b.state() == "unknown").await;
    assert_eq!(bench.log, ["east unknown"]);
    bench.write("east/on-purpose.yaml", "# empty\n");
    bench.until("it is emptied on purpose", |b| b.services().is_empty()).await;
    assert_eq!(bench.state(), "synced");
}

#[tokio::test]
async fn the_whole_folder_may_vanish_and_come_back() {
    let outer = tempfile::tempdir().expect("a temporary folder");
    let root = outer.path().join("manifests");
    write_all(&root, &[("east/a.yaml", &service("web", 80))]);
    let (sender, mut changes) = mpsc::channel(64);
    let source = start(Settings::new(&root), Arc::new(InMemory::default()), sender).await.expect("starts");
    let mut next = async || tokio::time::timeout(PATIENCE, changes.recv()).await.expect("in time").expect("a batch");
    assert_eq!(next().await.len(), 2);
    fs::rename(&root, outer.path().join("away")).expect("renamed");
    assert!(matches!(&next().await[..], [Change::Unknown { .. }]));
    fs::rename(outer.path().join("away"), &root).expect("renamed");
    assert!(matches!(&next().await[..], [Change::Synced { .. }]));
    source.stop().await;
}

#[tokio::test]
async fn a_restart_has_the_last_good_content_of_broken_files_and_lost_folders() {
    let bench = Bench::new(&[("east/a.yaml", &service("web", 80)), ("west/a.yaml", &service("api", 80))]).await;
    let Bench { root, source, kept, .. } = bench;
    source.stop().await;
    saved(&kept, 2).await;
    write_all(root.path(), &[("east/a.yaml", "kind: [")]);
    fs::remove_dir_all(root.path().join("west")).expect("removed");

    let mut bench = Bench::over(root, kept).await;
    assert_eq!(bench.services(), ["web"]);
    assert_eq!(bench.state(), "synced");
    assert_eq!(bench.names("west", ObjectKind::Service), ["api"]);
    assert_eq!(bench.states.get("west"), Some(&"unknown"));
    let report = bench.source.report.borrow().clone();
    let of = |cluster: &str| -> Vec<&Problem> { report.problems.iter().filter(|p| p.cluster == cluster).collect() };
    assert_eq!(of("east").len(), 1);
    assert_eq!(of("east")[0].line, Some(1));
    assert!(of("west")[0].message.contains("is gone"), "{report:?}");

    // Forgetting is for what is gone only.
    let (east, west) = (ClusterName::from("east"), ClusterName::from("west"));
    assert_eq!(bench.source.forget(&east).await, Forgotten::StillThere);
    assert_eq!(bench.source.forget(&"north".into()).await, Forgotten::NotKnown);
    assert_eq!(bench.source.forget(&west).await, Forgotten::Done);
    bench.until("it is forgotten", |b| !b.states.contains_key("west")).await;
    saved(&bench.kept, 1).await;
}

#[tokio::test]
async fn a_file_that_was_removed_while_nobody_looked_is_not_brought_back() {
    let root = tempfile::tempdir().expect("a temporary folder");
    write_all(root.path(), &[("east/a.yaml", &service("web", 80))]);
    let kept = Arc::new(InMemory::default());
    let old = GoodFile { path: "old.yaml".into(), sha256: "0".into(), content: service("old", 80).as_bytes().into() };
    kept.save(vec![Saved::Put { cluster: "east".into(), file: old }]).await.expect("saved");
    let bench = Bench::over(root, kept).await;
    assert_eq!(bench.services(), ["web"]);
    saved(&bench.kept, 1).await;
}

/// Waits until as many files are kept.
async fn saved(kept: &InMemory, wanted: usize) {
    let began = Instant::now();
    loop {
        let mut count = 0;
        for cluster in kept.clusters().await.expect("clusters") {
            count += kept.files(&cluster).await.expect("files").len();
        }
        if count == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{count} files are kept, not {wanted}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_keeps_its_content() {
    let mut bench = Bench::new(&[("east/a.yaml", &service("web", 80))]).await;
    fs::remove_file(path_of(&bench, "a.yaml")).expect("removed");
    symlink("nowhere.yaml", path_of(&bench, "a.yaml")).expect("linked");
    let report = bench.until_report("it is told", |r| r.problems.len() == 1).await;
    assert!(report.problems[0].message.contains("cannot be read"), "{report:?}");
    // Whoever may read everything, as root does, is not kept out by a mode.
    let locked = path_of(&bench, "locked.yaml");
    fs::write(&locked, service("api", 80)).expect("written");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).expect("locked");
    bench.for_a_while(Duration::from_millis(300)).await;
    assert!(bench.services().contains(&"web".to_owned()));
}

#[tokio::test]
async fn misplaced_files_and_folders_are_told() {
    let bench = Bench::new(&[
        ("stray.yaml", "a: b"),
        ("Not_A_Name/a.yaml", &service("web", 80)),
        (".git/config.yaml", "]["),
        ("README.md", "# read me"),
        ("east/a.yaml", &service("web", 80)),
        ("east/notes.txt", "]["),
    ])
    .await;
    let report = bench.until_report("both are told", |r| r.problems.len() == 2).await;
    assert!(report.problems[0].message.contains("no cluster's folder"), "{report:?}");
    assert!(report.problems[1].message.contains("upper case"), "{report:?}");
    assert_eq!(bench.states.len(), 1);
}

#[tokio::test]
async fn a_missing_folder_is_refused_at_the_start() {
    let (sender, _changes) = mpsc::channel(1);
    let refused = start(Settings::new("/does/not/exist"), Arc::new(InMemory::default()), sender).await;
    let message = refused.map(|_| ()).expect_err("refused").to_string();
    assert!(message.contains("/does/not/exist") && message.contains("--manifests"), "{message}");
}

/// Writes a folder of many clusters, each with Services that have a slice of endpoints each, one
/// file for each hundred Services.
pub fn write_many(root: &Path, clusters: usize, services: usize, endpoints: usize) {
    use std::fmt::Write;
    for cluster in 0..clusters {
        for file in 0..services.div_ceil(100) {
            let mut text = String::new();
            for number in file * 100..services.min(file * 100 + 100) {
                let name = format!("svc-{number}");
                text.push_str(&service(&name, 80));
                write!(
                    text,
                    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: shop\n  \
                     name: {name}-1\n  labels:\n    kubernetes.io/service-name: {name}\naddressType: IPv4\nports:\n\
                     - name: http\n  port: 8080\n  protocol: TCP\nendpoints:\n"
                )
                .expect("written");
                for endpoint in 0..endpoints {
                    let (high, low) = (number / 250, number % 250 + 1);
                    write!(
                        text,
                        "- addresses:\n  - 10.{}.{low}.{}\n  conditions:\n    ready: true\n    serving: true\n    \
                         terminating: false\n  nodeName: node-{}\n  zone: zone-{}\n  targetRef:\n    kind: Pod\n    \
                         namespace: shop\n    name: {name}-{endpoint}\n",
                        cluster * 10 + high,
                        endpoint + 1,
                        endpoint % 10,
                        endpoint % 3
                    )
                    .expect("written");
                }
                text.push_str("---\n");
            }
            write_all(&root.join(format!("cluster-{cluster}")), &[(&format!("{file:03}.yaml"), &text)]);
        }
    }
}

/// Five clusters of 1,000 Services of 20 endpoints each are read in seconds even without
/// optimisation; with it the time is printed to be looked at (`--release --nocapture`).
#[tokio::test]
async fn many_objects_load_fast() {
    let (services, limit) = if cfg!(debug_assertions) { (100, 10) } else { (1000, 3) };
    let root = tempfile::tempdir().expect("a temporary folder");
    write_many(root.path(), 5, services, 20);
    let began = Instant::now();
    let bench = Bench::over(root, Arc::default()).await;
    let took = began.elapsed();
    println!("5 clusters of {services} Services and slices of 20 endpoints: {took:?}");
    assert_eq!(bench.objects.len(), 5 * services * 2);
    assert!(took < Duration::from_secs(limit), "{took:?}");
}
