//! A small language model on this machine: llama.cpp's own HTTP server, with the OpenAI API at `/v1`, as a child.
//!
//! The package `xllamacpp` carries the server as a library of Python, so the child is a Python with a launcher of a few
//! lines. It keeps nothing: it may be killed at any time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::child::{Child, Launch, plain_environment, spawn};
use crate::{Programs, ServersError};

/// What it is started by; written beside its log, because a shipped program has no repository around it.
const LAUNCHER: &str = include_str!("llama.py");
/// The model's file in the virtual environment of `make model`.
const MODEL_FILE: &str = "gemma-3-270m-q4_k_m.gguf";
/// Loading 250 MB from a cold disk on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// A model that keeps dying is started no more often than this: it takes some seconds of all cores each time.
const REVIVE_EVERY: Duration = Duration::from_secs(10);

/// How to start a model.
#[derive(Debug, Clone)]
pub struct LlamaOptions {
    /// Its folder; its launcher and log lie in it.
    pub folder: PathBuf,
    /// The loopback port.
    pub port: u16,
    /// The Python that has `xllamacpp`.
    pub python: PathBuf,
    /// The model's weights, GGUF.
    pub model: PathBuf,
    /// Requests that are answered at a time.
    pub slots: u16,
    /// Prompt and answer of one request, tokens.
    pub context_tokens: u32,
    /// Threads it computes with.
    pub threads: u16,
}

impl LlamaOptions {
    /// The model of `make model`: in `$SWARM_MODEL_VENV`, else in `venv-model` beside the servers' virtual environment.
    /// Two slots, as many as `llm.toml` says of tier `local`, of 4,096 tokens each, and two threads.
    ///
    /// # Errors
    /// [`ServersError::NoModel`] when it is not there.
    pub fn usual(folder: &Path, port: u16) -> Result<Self, ServersError> {
        let beside = || Programs::usual_venv().map(|venv| venv.with_file_name("venv-model"));
        let venv = std::env::var_os("SWARM_MODEL_VENV").map(PathBuf::from).or_else(beside);
        let venv = venv.unwrap_or_else(|| PathBuf::from(".local/venv-model"));
        let (python, model) = (venv.join("bin/python"), venv.join(MODEL_FILE));
        for path in [&python, &model] {
            if !path.is_file() {
                return Err(ServersError::NoModel { path: path.clone() });
            }
        }
        Ok(Self { folder: folder.to_owned(), port, python, model, slots: 2, context_tokens: 4_096, threads: 2 })
    }

    /// What the model is called.
    #[must_use]
    pub fn model_name(&self) -> String {
        self.model.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    }
}

/// A running model. Dropping it stops it.
#[derive(Debug)]
pub struct LlamaServer {
    child: Child,
    options: LlamaOptions,
    launched_at: Instant,
}

impl LlamaServer {
    /// Starts it and waits until the model is loaded.
    ///
    /// # Errors
    /// When its files can't be written, or it does not start.
    pub fn start(options: &LlamaOptions) -> Result<Self, ServersError> {
        let mut server = Self::launch(options)?;
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Starts it without waiting: it loads its model for some seconds.
    ///
    /// # Errors
    /// When its files can't be written, or it does not start.
    pub fn launch(options: &LlamaOptions) -> Result<Self, ServersError> {
        let launched_at = Instant::now();
        let launcher = options.folder.join("llama.py");
        let file = |action, path: &Path| {
            let path = path.to_owned();
            move |source| ServersError::File { action, path, source }
        };
        std::fs::create_dir_all(&options.folder).map_err(file("making", &options.folder))?;
        std::fs::write(&launcher, LAUNCHER).map_err(file("writing", &launcher))?;
        let mut command = Command::new(&options.python);
        plain_environment(&mut command);
        command.arg("-B").arg(&launcher).arg(&options.model);
        command.args([options.port.to_string(), options.slots.to_string()]);
        command.args([options.context_tokens.to_string(), options.threads.to_string()]);
        let child = spawn(Launch {
            command,
            name: "llama".to_owned(),
            log: options.folder.join("llama.log"),
            stop_signal: Signal::SIGTERM,
            death_signal: Signal::SIGKILL,
        })?;
        Ok(Self { child, options: options.clone(), launched_at })
    }

    /// Waits until the model is loaded.
    ///
    /// # Errors
    /// When it ends before that, or takes too long.
    pub fn wait_until_ready(&mut self) -> Result<(), ServersError> {
        let port = self.options.port;
        self.child.wait_until_ready(PATIENCE, || llama_answers(port))
    }

    /// Starts it again if it died, without waiting and not too often; `true` when it did.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn revive(&mut self) -> Result<bool, ServersError> {
        if self.child.try_wait()?.is_none() || self.launched_at.elapsed() < REVIVE_EVERY {
            return Ok(false);
        }
        *self = Self::launch(&self.options)?;
        Ok(true)
    }

    /// The base of its OpenAI API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.options.port)
    }

    /// How it was started.
    #[must_use]
    pub const fn options(&self) -> &LlamaOptions {
        &self.options
    }

    /// Its process.
    #[must_use]
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Stops it; `false` when it had to be killed.
    ///
    /// # Errors
    /// When it can't be signalled.
    pub fn stop(mut self) -> Result<bool, ServersError> {
        self.child.stop(Duration::from_secs(10))
    }
}

/// Whether a llama.cpp server with a loaded model is on this port; while it loads, it answers 503.
#[must_use]
pub fn llama_answers(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let asked = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut status = [0_u8; 12];
        stream.read_exact(&mut status)?;
        Ok(status == *b"HTTP/1.1 200")
    };
    asked().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::free_port;

    #[test]
    fn a_model_starts_answers_dies_is_started_again_and_stops() {
        let folder = tempfile::tempdir().unwrap();
        let options = LlamaOptions::usual(&folder.path().join("llama"), free_port().unwrap()).unwrap();
        let mut server = LlamaServer::start(&options).unwrap();
        assert!(llama_answers(options.port) && !server.revive().unwrap());
        server.child().kill().unwrap();
        assert!(!llama_answers(options.port));
        assert!(!server.revive().unwrap(), "not at once");
        server.launched_at -= REVIVE_EVERY;
        assert!(server.revive().unwrap());
        server.wait_until_ready().unwrap();
        assert!(server.stop().unwrap());
        assert!(!llama_answers(options.port));
    }

    #[test]
    fn a_file_that_is_no_model_is_told_with_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = LlamaOptions::usual(folder.path(), free_port().unwrap()).unwrap();
        options.model = folder.path().join("not.gguf");
        std::fs::write(&options.model, "no model").unwrap();
        let error = LlamaServer::start(&options).unwrap_err();
        assert!(matches!(&error, ServersError::Died { tail, .. } if !tail.is_empty()), "{error}");
    }
}
