//! A sweep on a Ray cluster of two nodes, one of which is killed at its work.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Sandbox, linears};

const SPEC: &str = "\
[model]
package = \"m.mlpackage\"

[variants]
recipes = [\"pal8-g8\", \"pal6-g8\", \"pal4-g16\", \"int8-c\"]

[gates]
size = \"3 MB\"

[output]
dir = \"out\"
";

/// Two nodes on this machine with a core each, gone at the end.
struct Cluster {
    ray: PathBuf,
    folder: tempfile::TempDir,
    address: String,
}

impl Cluster {
    /// Starts the nodes with the Ray of coremill's own environment.
    fn start(sandbox: &Sandbox) -> Self {
        let python = sandbox.run(&["setup", "--ray", "--print-python", "-q"]).ends(0).stdout;
        let ray = Path::new(python.trim()).with_file_name("ray");
        // Sockets lie below it, whose paths must be short.
        let folder = tempfile::TempDir::with_prefix("ray-").unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let cluster = Self { ray, folder, address };
        let port = cluster.address.rsplit(':').next().unwrap();
        let (port, client) = (format!("--port={port}"), free_port());
        let client = format!("--ray-client-server-port={client}");
        let temp = format!("--temp-dir={}", cluster.folder.path().display());
        cluster.node(&["--head", &port, &client, &temp, "--include-dashboard=false"]);
        cluster.node(&[&format!("--address={}", cluster.address)]);
        cluster
    }

    fn node(&self, args: &[&str]) {
        let output = Command::new(&self.ray)
            .arg("start")
            .args(args)
            .args(["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"])
            .arg("--node-ip-address=127.0.0.1")
            .stdin(Stdio::null())
            .stdout(fs_err::File::create(self.folder.path().join("start.log")).unwrap().into_file())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let said = || fs_err::read_to_string(self.folder.path().join("start.log")).unwrap();
        assert!(output.success(), "{}", said());
    }

    /// The processes of the cluster whose command line has `word`, the oldest first.
    fn processes(&self, word: &str) -> Vec<i32> {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let mut found: Vec<i32> = fs_err::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let id: i32 = path.file_name()?.to_str()?.parse().ok()?;
                let line = fs_err::read(path.join("cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).into_owned();
                (line.contains(&folder) && line.contains(word)).then_some(id)
            })
            .collect();
        found.sort_unstable();
        found
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for id in self.processes("") {
            kill(id);
        }
    }
}

fn kill(id: i32) {
    // It may be gone already.
    let silent = Stdio::null();
    Command::new("kill").args(["-9", &id.to_string()]).stderr(silent).status().unwrap();
}

/// Whether a process whose command line has `words` descends from `ancestor`.
fn at_work_below(ancestor: i32, words: &str) -> bool {
    let parent = |id: i32| -> Option<i32> {
        let stat = fs_err::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let descends =
        |id: i32| std::iter::successors(Some(id), |&id| parent(id)).any(|id| id == ancestor);
    let ids = fs_err::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        let line = fs_err::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(words)
    })
    .any(descends)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A sandbox with a package whose compression takes a while, and a spec that sweeps it.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_python();
    let shape = [1536, 1536];
    linears(&sandbox.path().join("m.mlpackage"), &[("a", shape), ("b", shape)]);
    sandbox.write("sweep.toml", SPEC);
    sandbox
}

/// Names, sizes and digests of a report's variants.
fn made(sandbox: &Sandbox) -> Vec<Value> {
    let text = fs_err::read(sandbox.path().join("out/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&text).unwrap();
    let fields = |variant: &Value| {
        let keys = ["name", "status", "size_bytes", "sha256", "package"];
        assert!(variant["sha256"].is_string(), "{variant:#}");
        keys.iter().map(|key| variant[*key].clone()).collect()
    };
    report["variants"].as_array().unwrap().iter().map(fields).collect()
}

#[test]
fn python_nodes_make_what_one_machine_makes_and_take_over_from_one_that_is_killed() {
    let here = sandbox();
    here.run(&["sweep", "sweep.toml", "-q"]).ends(1);
    let want = made(&here);

    let sandbox = sandbox();
    let cluster = Cluster::start(&sandbox);
    let storage = format!("file://{}", sandbox.path().join("stored").display());
    // Nodes that share a folder, one of which goes.
    let shared = ["sweep", "sweep.toml", "--progress", "json", "--engine", "ray", "--address"];
    let shared = [&shared[..], &[cluster.address.as_str()]].concat();
    let mut child =
        sandbox.command(&shared).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let told = std::thread::spawn(move || {
        let mut told = String::new();
        stderr.read_to_string(&mut told).unwrap();
        told
    });
    let raylets = cluster.processes("raylet/raylet");
    assert_eq!(raylets.len(), 2, "{raylets:?}");
    // Not before the second node is at a palette, which takes seconds.
    while !at_work_below(raylets[1], "--only\0pal") {
        assert!(child.try_wait().unwrap().is_none(), "{}", told.join().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    kill(raylets[1]);
    let told = told.join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{told}");
    assert!(told.contains("its worker was lost, started again"), "{told}");
    assert_eq!(made(&sandbox), want, "{told}");
    // What is there is not made again.
    let again = sandbox.run(&shared).ends(1).stderr;
    assert!(!again.contains(": started on"), "{again}");

    // A node with a folder of its own, and a driver that finds what another left in the storage.
    fs_err::remove_dir_all(sandbox.path().join("out")).unwrap();
    let through = [&shared[..], &["--storage", &storage]].concat();
    let told = sandbox.run(&through).ends(1).stderr;
    assert_eq!(told.matches(": made on").count(), 5, "{told}");
    assert_eq!(made(&sandbox), want, "{told}");
    fs_err::remove_dir_all(sandbox.path().join("out")).unwrap();
    let told = sandbox.run(&through).ends(1).stderr;
    assert!(!told.contains(": started on"), "{told}");
    assert_eq!(made(&sandbox), want, "{told}");

    // What fails on a node is told as it would be here, and not tried here.
    let broken = "[model]\npackage = \"m.mlpackage\"\n[variants]\nrecipes = [\"pal4-g16\"]\n\
                  [evaluate]\ntext = \"sweep.toml\"\n[output]\ndir = \"broken\"\n";
    sandbox.write("broken.toml", broken);
    let args = ["sweep", "broken.toml", "--engine", "ray", "--address", &cluster.address];
    let local = ["sweep", "broken.toml", "--set", "output.dir=local", "-q", "--format", "json"];
    let failures = |args: &[&str]| {
        let report = sandbox.run(args).ends(4).json();
        let variants = report["variants"].as_array().unwrap().clone();
        let failure = |variant: &Value| {
            let told = &variant["failure"];
            let (path, fact) = told["message"].as_str().unwrap().rsplit_once('/').unwrap();
            assert!(!path.is_empty(), "{told}");
            assert_eq!(told["attempts"], 1, "{told}");
            (told["stage"].clone(), fact.to_owned(), told["hint"].clone())
        };
        variants.iter().map(failure).collect::<Vec<_>>()
    };
    let args = [&args[..], &["-q", "--format", "json"]].concat();
    assert_eq!(failures(&args), failures(&local));
}

#[test]
fn python_clusters_that_are_not_there_are_told() {
    let sandbox = sandbox();
    let nowhere = format!("127.0.0.1:{}", free_port());
    let args = ["sweep", "sweep.toml", "-q", "--engine", "ray", "--address", &nowhere];
    let refused = sandbox.run(&args).ends(4);
    assert!(refused.stderr.contains(&format!("no cluster answers at {nowhere}")), "{refused:?}");
    assert!(refused.stderr.contains("hint: "), "{refused:?}");
    let nothing = [&args[..], &["--storage", "nosuch://bucket"]].concat();
    let refused = sandbox.run(&nothing).ends(4);
    assert!(refused.stderr.contains("storage `nosuch://bucket`"), "{refused:?}");
    for (more, fact) in [
        (&["--fresh", "--storage", "file:///nowhere"][..], "`--fresh` does not reach"),
        (&["--set", "run.engine=\"slurm\""], "slurm"),
        (&["--set", "run={address=\"a\"}"], "`address` is for `engine = \"ray\"`"),
    ] {
        let refused = sandbox.run(&[&args[..], more].concat()).ends(2);
        assert!(refused.stderr.contains(fact), "{refused:?}");
    }
}
