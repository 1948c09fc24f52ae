//! The hub as it behaves and misbehaves, played by a server on the loopback address.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::base::digest;
use crate::base::error::Hint as _;
use crate::base::progress::Silent;

type Files<'a> = &'a [(&'a str, &'a [u8])];

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with a path, and for how many requests.
#[derive(Clone, Copy)]
enum Trouble {
    Status(u16),
    /// The connection ends after that many bytes of the body.
    Cut(usize),
    /// The body ends after that many bytes, and the headers say so.
    Short(usize),
    /// Another byte at the end than announced.
    Flipped,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    troubles: BTreeMap<String, (Trouble, usize)>,
    requests: Vec<String>,
}

struct Server {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Serves the repository `o/n` with those files.
    fn start(files: Files<'_>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
        let state = Arc::new(Mutex::new(State { files: files.collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is its own affair.
                drop(answer(&mut stream.unwrap(), &shared));
            }
        });
        Self { address, state }
    }

    fn trouble(&self, path: &str, trouble: Trouble, n_times: usize) {
        self.state.lock().unwrap().troubles.insert(path.to_owned(), (trouble, n_times));
    }

    /// The requests since the last call.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

fn answer(stream: &mut TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap()?;
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<String> =
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let range = headers
        .iter()
        .find_map(|h| h.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let mut state = state.lock().unwrap();
    let probe = range.as_deref() == Some("0-0");
    state.requests.push(format!("{path} {}", range.as_deref().unwrap_or("")).trim_end().to_owned());
    let name =
        path.rsplit_once(&format!("/resolve/{COMMIT}/")).map_or("api", |(_, name)| name).to_owned();
    let trouble = match state.troubles.get_mut(&name) {
        // Probes tell size and name; what goes wrong with bodies leaves them alone.
        Some((trouble, left)) if *left > 0 && (!probe || matches!(trouble, Trouble::Status(_))) => {
            *left -= 1;
            Some(*trouble)
        }
        _ => None,
    };
    if let Some(Trouble::Status(status)) = trouble {
        return write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    if name == "api" {
        let siblings = state.files.iter().map(|(name, bytes)| {
            let mut sibling = json!({"rfilename": name, "size": bytes.len()});
            if name.ends_with(".safetensors") {
                sibling["lfs"] = json!({"sha256": digest::of_bytes(bytes), "size": bytes.len()});
            }
            sibling
        });
        let text = json!({"sha": COMMIT, "siblings": siblings.collect::<Vec<_>>()}).to_string();
        let n = text.len();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {n}\r\nConnection: close\r\n\r\n{text}"
        );
    }
    let Some(whole) = state.files.get(&name) else {
        return write!(stream, "HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let start: usize = range.unwrap().split('-').next().unwrap().parse().unwrap();
    let mut body =
        if probe { whole[..1].to_vec() } else { whole[start.min(whole.len())..].to_vec() };
    let mut length = body.len();
    match trouble {
        Some(Trouble::Cut(n)) => body.truncate(n),
        Some(Trouble::Short(n)) => {
            body.truncate(n);
            length = n;
        }
        Some(Trouble::Flipped) => *body.last_mut().unwrap() ^= 1,
        _ => {}
    }
    let (total, etag) = (whole.len(), digest::of_bytes(whole));
    write!(
        stream,
        "HTTP/1.1 206 X\r\nContent-Length: {length}\r\nContent-Range: bytes {start}-{}/{total}\r\n\
         ETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
        total.saturating_sub(1)
    )?;
    stream.write_all(&body)
}

fn hub<'a>(endpoint: &'a str, cache_dir: &'a Path, token: Option<&'a str>) -> Hub<'a> {
    Hub { endpoint, cache_dir, token, backoff: Duration::from_millis(1), progress: &Silent }
}

const INDEX: &[u8] = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;

/// A sharded model with things beside it that a conversion does not need.
fn sharded() -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("config.json", b"{}"),
        ("tokenizer.json", b"tokens"),
        ("model.safetensors.index.json", INDEX),
        ("model-1.safetensors", b"first shard"),
        ("model-2.safetensors", b"second shard"),
        ("pytorch_model.bin", b"unwanted"),
        ("onnx/model.safetensors", b"unwanted"),
        ("README.md", b"unwanted"),
    ]
}

const WANTED: [&str; 5] = [
    "config.json",
    "model-1.safetensors",
    "model-2.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
];

fn listed(dir: &Path) -> Vec<String> {
    crate::base::fs::files_below(dir).unwrap()
}

#[test]
fn a_repository_arrives_once() {
    let server = Server::start(&sharded());
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server.address, cache.path(), None);
    let resolved = hub.resolve("o/n", None).unwrap();
    assert_eq!(resolved.revision.as_deref(), Some(COMMIT));
    assert_eq!(resolved.repository.as_deref(), Some("o/n"));
    assert_eq!(resolved.dir, cache.path().join("models--o--n/snapshots").join(COMMIT));
    assert_eq!(listed(&resolved.dir), WANTED);
    assert_eq!(fs_err::read(resolved.dir.join("model-2.safetensors")).unwrap(), b"second shard");
    let main = cache.path().join("models--o--n/refs/main");
    assert_eq!(fs_err::read_to_string(main).unwrap(), COMMIT);

    server.requests();
    assert_eq!(hub.resolve("o/n", None).unwrap(), resolved);
    assert_eq!(server.requests(), ["/api/models/o/n/revision/main?blobs=true"]);
    hub.resolve("o/n", Some("v1/x")).unwrap();
    assert_eq!(server.requests(), ["/api/models/o/n/revision/v1%2Fx?blobs=true"]);
}

#[test]
fn passing_troubles_pass() {
    let shard = "model-1.safetensors";
    let cases = [
        ("api", Trouble::Status(503), 3),
        ("config.json", Trouble::Status(500), 3),
        (shard, Trouble::Status(429), 2),
        (shard, Trouble::Cut(5), 1),
        (shard, Trouble::Cut(0), 3),
        (shard, Trouble::Short(4), 2),
    ];
    for (path, trouble, n_times) in cases {
        let server = Server::start(&sharded());
        let cache = tempfile::tempdir().unwrap();
        server.trouble(path, trouble, n_times);
        let resolved = hub(&server.address, cache.path(), None).resolve("o/n", None).unwrap();
        assert_eq!(listed(&resolved.dir), WANTED);
        assert_eq!(fs_err::read(resolved.dir.join(shard)).unwrap(), b"first shard");
        if matches!(trouble, Trouble::Cut(5)) {
            let requests = server.requests();
            assert!(requests.iter().any(|r| r.ends_with("model-1.safetensors 5-")), "{requests:?}");
        }
    }
}

#[test]
fn lasting_troubles_are_named_and_leave_nothing_that_looks_whole() {
    let shard = "model-2.safetensors";
    let digests = (digest::of_bytes(b"second shard"), digest::of_bytes(b"second share"));
    let wrong = format!(
        "`model-2.safetensors` of `o/n` arrived with SHA-256 {}; the hub announced {}",
        digests.1, digests.0
    );
    let cases: [(&str, Trouble, Option<&str>, &str, &str); 8] = [
        (
            "api",
            Trouble::Status(404),
            None,
            "has no repository `o/n` with revision `main`",
            "spelling",
        ),
        (
            "api",
            Trouble::Status(401),
            None,
            "refuses `o/n` with status 401, without a token",
            "`--hf-token`",
        ),
        (
            shard,
            Trouble::Status(403),
            Some("t"),
            "status 403, even with the token",
            "accept the model's terms",
        ),
        ("api", Trouble::Status(502), None, "answers o/n with status 502", ""),
        (shard, Trouble::Status(502), None, "answers `model-2.safetensors` with status 502", ""),
        (shard, Trouble::Cut(0), None, "cannot be reached: ", "pass a folder"),
        (shard, Trouble::Short(3), None, "arrived with 3 bytes; the hub announced 12", "run again"),
        (shard, Trouble::Flipped, None, &wrong, "run again"),
    ];
    for (path, trouble, token, want, hint) in cases {
        let server = Server::start(&sharded());
        let cache = tempfile::tempdir().unwrap();
        server.trouble(path, trouble, usize::MAX);
        let hub = hub(&server.address, cache.path(), token);
        let error = hub.resolve("o/n", None).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{:?}", error.hint());
        let snapshot = cache.path().join("models--o--n/snapshots").join(COMMIT);
        assert!(!snapshot.join(shard).exists());
        // Once the trouble is over the same call succeeds.
        server.trouble(path, trouble, 0);
        let resolved = hub.resolve("o/n", None).unwrap();
        assert_eq!(fs_err::read(resolved.dir.join(shard)).unwrap(), b"second shard");
    }
}

#[test]
fn a_file_cut_off_in_the_cache_is_fetched_again() {
    let server = Server::start(&sharded());
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server.address, cache.path(), None);
    let file = hub.resolve("o/n", None).unwrap().dir.join("model-1.safetensors");
    let blob = fs_err::canonicalize(&file).unwrap();
    fs_err::write(&blob, b"first").unwrap();
    hub.resolve("o/n", None).unwrap();
    assert_eq!(fs_err::read(&file).unwrap(), b"first shard");
    fs_err::remove_file(&blob).unwrap();
    hub.resolve("o/n", None).unwrap();
    assert_eq!(fs_err::read(&file).unwrap(), b"first shard");
}

#[test]
fn without_a_network_the_cache_serves() {
    let server = Server::start(&sharded());
    let cache = tempfile::tempdir().unwrap();
    let resolved = hub(&server.address, cache.path(), None).resolve("o/n", None).unwrap();
    // A port that was free a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{closed}");
    let offline = hub(&endpoint, cache.path(), None);
    assert_eq!(offline.resolve("o/n", None).unwrap(), resolved);
    assert_eq!(offline.resolve("o/n", Some(COMMIT)).unwrap(), resolved);
    let error = offline.resolve("o/other", None).unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

#[test]
fn repositories_without_usable_weights_are_named() {
    let cases: [(Files<'_>, &str); 3] = [
        (&[("config.json", b"{}"), ("model.gguf", b"x")], "repository `o/n` holds no weights"),
        (&[("config.json", b"{}")], "repository `o/n` holds no weights"),
        (
            &[("model.safetensors.index.json", INDEX), ("model-1.safetensors", b"x")],
            "`model.safetensors.index.json` of `o/n` names `model-2.safetensors`, which",
        ),
    ];
    for (files, want) in cases {
        let server = Server::start(files);
        let cache = tempfile::tempdir().unwrap();
        let error = hub(&server.address, cache.path(), None).resolve("o/n", None).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
}

#[test]
fn adapters_and_sentence_transformers_arrive() {
    let cases: [(Files<'_>, &[&str]); 2] = [
        (
            &[("adapter_config.json", b"{}"), ("adapter_model.safetensors", b"x"), ("x.py", b"")],
            &["adapter_config.json", "adapter_model.safetensors"],
        ),
        (
            &[
                ("modules.json", b"[]"),
                ("config.json", b"{}"),
                ("model.safetensors", b"x"),
                ("1_Pooling/config.json", b"{ }"),
                ("2_Dense/config.json", b"{  }"),
                ("2_Dense/model.safetensors", b"y"),
                ("openvino/config.json", b"{   }"),
            ],
            &[
                "1_Pooling/config.json",
                "2_Dense/config.json",
                "2_Dense/model.safetensors",
                "config.json",
                "model.safetensors",
                "modules.json",
            ],
        ),
    ];
    for (files, want) in cases {
        let server = Server::start(files);
        let cache = tempfile::tempdir().unwrap();
        let resolved = hub(&server.address, cache.path(), None).resolve("o/n", None).unwrap();
        assert_eq!(listed(&resolved.dir), want);
    }
}

#[test]
fn folders_are_taken_as_they_are_and_nonsense_is_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub("http://127.0.0.1:1", dir.path(), None);
    let path = dir.path().to_str().unwrap();
    let want = Resolved { dir: dir.path().to_owned(), repository: None, revision: None };
    assert_eq!(hub.resolve(path, None).unwrap(), want);
    for model in ["./gone", "/gone", "a/b/c", "a b/c", "", "../x", "a/"] {
        let error = hub.resolve(model, None).unwrap_err().to_string();
        assert_eq!(error, format!("`{model}` is neither a folder nor a repository's name"));
    }
}

#[test]
fn a_file_of_a_dataset_is_fetched_once() {
    let server = Server::start(&[("a.txt", b"one two"), ("b.zip", b"other")]);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server.address, cache.path(), None);
    let file = hub.dataset_file("o/n", "a.txt").unwrap();
    assert_eq!(fs_err::read(&file).unwrap(), b"one two");
    let asked = server.requests();
    assert!(asked.iter().all(|path| path.contains("/datasets/o/n/")), "{asked:?}");
    assert!(asked.iter().all(|path| !path.contains("b.zip")), "{asked:?}");
    assert_eq!(hub.dataset_file("o/n", "a.txt").unwrap(), file);
    assert_eq!(server.requests().len(), 1, "the listing alone");
    let error = hub.dataset_file("o/n", "absent.txt").unwrap_err().to_string();
    assert_eq!(error, "repository `o/n` has no file `absent.txt`");
}
