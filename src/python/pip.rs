//! Extracts the reason of a failure from pip's output.

/// The reason of a failed `pip install`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The index could not be reached or broke off: worth another attempt.
    Network(String),
    /// The index's certificate is not trusted.
    Certificate(String),
    /// A file differs from its locked hash.
    Hash(String),
    /// No file for a locked requirement.
    NoMatch(String),
    /// The disk is full.
    DiskFull,
    /// Anything else: the last error line.
    Other(String),
}

const DISK: &[&str] = &["No space left on device", "Disk quota exceeded"];
const CERTIFICATE: &[&str] = &["CERTIFICATE_VERIFY_FAILED", "certificate verify failed"];
/// Texts of urllib3, requests and pip for a connection that failed; the first that occurs is the reason told.
const NETWORK: &[(&str, &str)] = &[
    ("Temporary failure in name resolution", "the name of the index could not be resolved"),
    ("Name or service not known", "the name of the index could not be resolved"),
    ("nodename nor servname provided", "the name of the index could not be resolved"),
    ("Failed to resolve", "the name of the index could not be resolved"),
    ("Network is unreachable", "the network is unreachable"),
    ("No route to host", "there is no route to the index"),
    ("ProxyError", "the proxy refused the connection"),
    ("Cannot connect to proxy", "the proxy refused the connection"),
    ("Connection refused", "the index refused the connection"),
    ("Connection reset by peer", "the connection was reset"),
    ("Read timed out", "the index did not answer in time"),
    ("ReadTimeoutError", "the index did not answer in time"),
    ("ConnectTimeoutError", "the index did not answer in time"),
    ("IncompleteRead", "the connection broke off during a download"),
    ("Connection broken", "the connection broke off during a download"),
    ("RemoteDisconnected", "the index closed the connection"),
    ("Connection aborted", "the index closed the connection"),
    ("SSLEOFError", "the index closed the connection"),
    ("NewConnectionError", "no connection to the index could be made"),
    ("Max retries exceeded", "no connection to the index could be made"),
    ("500 Server Error", "the index answered with a server error"),
    ("502 Server Error", "the index answered with a server error"),
    ("503 Server Error", "the index answered with a server error"),
    ("504 Server Error", "the index answered with a server error"),
    ("HTTP error 5", "the index answered with a server error"),
    ("429 Client Error", "the index asks to slow down"),
];

/// Reads the reason of a failure from everything pip wrote.
pub(super) fn classify(output: &str) -> Failure {
    if DISK.iter().any(|text| output.contains(text)) {
        return Failure::DiskFull;
    }
    if let Some(package) = hash_mismatch(output) {
        return Failure::Hash(package);
    }
    if CERTIFICATE.iter().any(|text| output.contains(text)) {
        return Failure::Certificate("certificate verify failed".to_owned());
    }
    if let Some((_, reason)) = NETWORK.iter().find(|(text, _)| output.contains(text)) {
        return Failure::Network((*reason).to_owned());
    }
    if let Some(requirement) = no_match(output) {
        return Failure::NoMatch(requirement);
    }
    Failure::Other(last_error(output))
}

/// `ERROR: THESE PACKAGES DO NOT MATCH THE HASHES ...`, then one indented line for each package.
fn hash_mismatch(output: &str) -> Option<String> {
    let mut lines = output.lines().skip_while(|l| !l.contains("DO NOT MATCH THE HASHES")).skip(1);
    let package = lines.find(|l| l.starts_with("    "))?.split_whitespace().next()?;
    Some(package.trim_end_matches(':').to_owned())
}

/// `ERROR: No matching distribution found for NAME==VERSION`, with a marker or comment behind it at times.
fn no_match(output: &str) -> Option<String> {
    let (_, rest) = output.split_once("No matching distribution found for ")?;
    Some(rest.split_whitespace().next()?.trim_end_matches(';').to_owned())
}

fn last_error(output: &str) -> String {
    let error = output.lines().rev().find_map(|l| l.trim_start().strip_prefix("ERROR: "));
    let line = error.or_else(|| output.lines().rev().find(|l| !l.trim().is_empty()));
    line.unwrap_or("it wrote nothing").trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of pip 23.2 (the shape has not changed up to 25), shortened.
    #[test]
    fn real_outputs_are_told_apart() {
        let retry = |error: &str| {
            format!(
                "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError('<x>: \
                 Failed to establish a new connection: {error}')': /simple/iniconfig/\n\
                 ERROR: Could not find a version that satisfies the requirement iniconfig==2.3.1 (from versions: none)\n\
                 ERROR: No matching distribution found for iniconfig==2.3.1\n"
            )
        };
        let network = |text: &str| Failure::Network(text.to_owned());
        let cases: Vec<(String, Failure)> = vec![
            (
                "Collecting iniconfig==2.3.1\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS \
                 FILE. If you have updated the package versions, please update the hashes.\n    iniconfig==2.3.1 from \
                 somewhere (from -r hash.txt (line 1)):\n        Expected sha256 00\n             Got        91\n"
                    .into(),
                Failure::Hash("iniconfig==2.3.1".into()),
            ),
            (
                "ERROR: Could not find a version that satisfies the requirement iniconfig==99.0 (from versions: 2.3.1)\n\
                 ERROR: No matching distribution found for iniconfig==99.0\n"
                    .into(),
                Failure::NoMatch("iniconfig==99.0".into()),
            ),
            (retry("[Errno 111] Connection refused"), network("the index refused the connection")),
            (
                retry("[Errno -3] Temporary failure in name resolution"),
                network("the name of the index could not be resolved"),
            ),
            (retry("[Errno 101] Network is unreachable"), network("the network is unreachable")),
            (
                "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='x', port=443): Read timed \
                 out.\n"
                    .into(),
                network("the index did not answer in time"),
            ),
            (
                "pip._vendor.urllib3.exceptions.ProtocolError: ('Connection broken: IncompleteRead(1 bytes read)',)\n"
                    .into(),
                network("the connection broke off during a download"),
            ),
            (
                "ERROR: HTTP error 503 while getting x\n".into(),
                network("the index answered with a server error"),
            ),
            (
                "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: \
                 self-signed certificate'))\nERROR: No matching distribution found for a==1\n"
                    .into(),
                Failure::Certificate("certificate verify failed".into()),
            ),
            (
                "ProtocolError: (\"Connection broken: OSError(28, 'No space left on device')\")\n".into(),
                Failure::DiskFull,
            ),
            (
                "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n".into(),
                Failure::DiskFull,
            ),
            (
                "ERROR: a is not a supported wheel on this platform.\n\n".into(),
                Failure::Other("a is not a supported wheel on this platform".into()),
            ),
            ("Killed\n".into(), Failure::Other("Killed".into())),
            (String::new(), Failure::Other("it wrote nothing".into())),
        ];
        for (output, want) in cases {
            assert_eq!(classify(&output), want, "{output}");
        }
    }
}
