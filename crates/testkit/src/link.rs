//! A TCP link to a server on this machine that can stop carrying bytes while both sides believe that they are connected:
//! a server that hangs, without stopping one that other tests use.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The link; closed when it is dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    held: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Link {
    /// Opens a link to the server that listens on `server`.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn open(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let held = watch::Sender::new(false);
        let watched = held.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, watched.subscribe()));
                tokio::spawn(carry(far_in, near_out, watched.subscribe()));
            }
        });
        Self { port, held, task }
    }

    /// Where to connect instead.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Carries nothing from now on, and closes nothing.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Carries on, with what was held first.
    pub fn pass(&self) {
        self.held.send_replace(false);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if held.wait_for(|held| !held).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
