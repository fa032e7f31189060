//! A TCP proxy between one agent and one server, which can be slow or deaf: in between bytes are held back or taken and
//! never delivered, while both sides believe that they are connected.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::Trouble;

/// Which server is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    /// NATS.
    Nats,
    /// PostgreSQL.
    Postgres,
}

impl Server {
    /// Its name in `ports.json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Postgres => "postgres",
        }
    }
}

/// What a link does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Passes them on.
    Fair,
    /// Passes each part on after this long.
    Slow(Duration),
    /// Takes nothing and delivers nothing, and closes nothing.
    HalfOpen,
}

/// One link.
#[derive(Debug)]
pub struct Link {
    /// Where the agent connects.
    pub port: u16,
    weather: watch::Sender<Weather>,
}

impl Link {
    /// Opens a link to whatever port `ports_file` names for the server when somebody connects.
    ///
    /// # Errors
    /// [`Trouble::Other`] when no port can be had.
    pub async fn open(ports_file: &Path, server: Server) -> Result<Self, Trouble> {
        let trouble = |error: std::io::Error| Trouble::Other(format!("a proxy's port: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(trouble)?;
        let port = listener.local_addr().map_err(trouble)?.port();
        let (weather, seen) = watch::channel(Weather::Fair);
        tokio::spawn(serve(listener, ports_file.to_owned(), server, seen));
        Ok(Self { port, weather })
    }

    /// From now on.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn serve(listener: TcpListener, ports_file: PathBuf, server: Server, weather: watch::Receiver<Weather>) {
    while let Ok((near, _)) = listener.accept().await {
        let (ports_file, weather) = (ports_file.clone(), weather.clone());
        tokio::spawn(async move {
            // Dropped without an answer when the server is away: the agent sees its connection end.
            let Some(port) = port_of(&ports_file, server) else { return };
            let mut before = weather.clone();
            let hears = before.wait_for(|now| *now != Weather::HalfOpen).await.is_ok();
            if !hears {
                return;
            }
            let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::select! {
                () = carry(near_in, far_out, weather.clone()) => {}
                () = carry(far_in, near_out, weather) => {}
            }
        });
    }
}

fn port_of(ports_file: &Path, server: Server) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(ports_file).ok()?).ok()?;
    u16::try_from(ports[server.word()].as_u64()?).ok()
}

/// Carries one direction until either side closes.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut weather: watch::Receiver<Weather>) {
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let now = *weather.borrow();
        if let Weather::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
        // What was read before the link went deaf is held back until it hears again.
        let hears = weather.wait_for(|now| *now != Weather::HalfOpen).await.is_ok();
        if !hears {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_half_open_link_holds_bytes_back_and_delivers_them_later() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let folder = std::env::temp_dir().join(format!("chaos-proxy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let ports = folder.join("ports.json");
        std::fs::write(&ports, format!("{{\"nats\":{}}}", server.local_addr().unwrap().port())).unwrap();
        let link = Link::open(&ports, Server::Nats).await.unwrap();
        let mut near = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port)).await.unwrap();
        let (mut far, _) = server.accept().await.unwrap();
        let mut byte = [0_u8; 1];
        near.write_all(b"a").await.unwrap();
        far.read_exact(&mut byte).await.unwrap();
        link.set(Weather::HalfOpen);
        near.write_all(b"b").await.unwrap();
        let held = tokio::time::timeout(Duration::from_millis(100), far.read_exact(&mut byte)).await;
        assert!(held.is_err(), "delivered through a half-open link");
        link.set(Weather::Fair);
        far.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"b");
        drop(near);
        assert_eq!(far.read(&mut byte).await.unwrap(), 0, "an end is passed on");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
