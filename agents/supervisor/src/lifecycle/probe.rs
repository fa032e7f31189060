//! Asks a process that was started whether it is ready, at its own port (`/readyz`): sooner than its next heartbeat says so.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer that takes longer is none; the next look asks again.
const WITHIN: Duration = Duration::from_millis(200);
/// What is asked.
const ASKED: &[u8] = b"GET /readyz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n";
/// What is read of an answer at most.
const MOST_BYTES: usize = 64;

/// Whether `agent` says that it is ready. Its port is in `<run dir>/<agent>.http`, which is removed before each start, so that it
/// is never that of an earlier one.
pub(super) async fn is_ready(run_dir: &Path, agent: &str) -> bool {
    let Some(port) = std::fs::read_to_string(file(run_dir, agent)).ok().and_then(|text| text.trim().parse().ok())
    else {
        return false;
    };
    timeout(WITHIN, ask(port)).await.ok().flatten().is_some_and(|status| status == 200)
}

/// Forgets where an earlier start listened.
pub(super) fn forget(run_dir: &Path, agent: &str) {
    let _ = std::fs::remove_file(file(run_dir, agent));
}

fn file(run_dir: &Path, agent: &str) -> std::path::PathBuf {
    run_dir.join(format!("{agent}.http"))
}

/// The status of an answer.
async fn ask(port: u16) -> Option<u16> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    stream.write_all(ASKED).await.ok()?;
    let mut answer = Vec::new();
    stream.take(u64::try_from(MOST_BYTES).unwrap_or(0)).read_to_end(&mut answer).await.ok()?;
    status(&answer)
}

/// The status code of an answer's first line.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let text = std::str::from_utf8(line).ok()?;
    text.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_the_first_line_says_how_it_is() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503 Service Unavailable\r\n"), Some(503));
        for text in ["", "200", "HTTP/2 200", "HTTP/1.1", "HTTP/1.1 two"] {
            assert_eq!(status(text.as_bytes()), None, "{text:?}");
        }
    }

    #[tokio::test]
    async fn it_is_ready_when_it_says_so_at_the_port_of_this_start() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_ready(folder.path(), "monitor").await, "nobody told a port");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        std::fs::write(folder.path().join("monitor.http"), listener.local_addr().unwrap().port().to_string()).unwrap();
        let serving = tokio::spawn(async move {
            for status in ["503 Service Unavailable", "200 OK"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                // All of it: what is left unread would cut the connection off before the answer was read.
                let mut asked = vec![0; ASKED.len()];
                stream.read_exact(&mut asked).await.unwrap();
                assert_eq!(asked, ASKED);
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
            }
        });
        assert!(!is_ready(folder.path(), "monitor").await);
        assert!(is_ready(folder.path(), "monitor").await);
        serving.await.unwrap();
        forget(folder.path(), "monitor");
        assert!(!is_ready(folder.path(), "monitor").await);
    }
}
