//! A strict double of the providers of language models, on a free port of 127.0.0.1.
//!
//! It holds a client to what the providers document: paths, keys, fields and their types and ranges, the shape of messages
//! and tools. What it refuses as malformed it also writes down ([`Provider::violations`]), because a router may well turn
//! a refusal into another tier's good answer and nobody would see it. The other half is for tests: what is answered, how
//! fast, and whatever goes wrong ([`Fault`]).

mod anthropic;
mod check;
mod embed;
mod fault;
mod limits;
mod ollama;
mod openai;
mod openai_request;
mod play;
mod schema;
mod server;
mod talk;
mod wire;
mod world;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::wait::wait_until;

pub use embed::vector;
pub use fault::{ErrorBody, Fault};
pub use limits::Limits;
pub use talk::{Answer, tokens};
pub use world::{Billed, Seen};
use world::{Lasting, Script, Shared, World};

/// The key that [`Dialect::OpenAi`] and [`Dialect::Anthropic`] expect unless they are told another.
pub const KEY: &str = "sk-double-0123456789abcdef";

/// Whose API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's at `/v1`, Groq's at `/openai/v1`, OpenRouter's at `/api/v1`: chat completions, embeddings, models.
    OpenAi,
    /// Ollama's own at `/api`: chat, embed, tags, version. It expects no key.
    Ollama,
    /// Anthropic's Messages API at `/v1/messages`.
    Anthropic,
}

/// The double. Dropping it stops it.
#[derive(Debug)]
pub struct Provider {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Bound and never listening: while the double is dead nobody else gets its port, and connects are refused.
    _port: TcpSocket,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Provider {
    /// Starts one that answers well, every model, with a text of its own or the least that a schema allows.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(dialect: Dialect) -> Self {
        let port = socket();
        port.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = port.local_addr().expect("an address");
        let shared = Arc::new(Shared::new(dialect));
        let running = Mutex::new(Some(run(address, &shared)));
        Self { shared, address, _port: port, running }
    }

    /// What clients take as the base of its addresses, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the listener and every connection: from now on connects are refused.
    pub async fn die(&self) {
        let running = self.running().take();
        if let Some(running) = running {
            running.stop.send_replace(true);
            let _ = running.task.await;
        }
    }

    /// Listens again, on the same port.
    ///
    /// # Panics
    /// When the port cannot be had.
    pub async fn revive(&self) {
        let mut running = self.running();
        if running.is_none() {
            *running = Some(run(self.address, &self.shared));
        }
    }

    // What it answers.

    /// The answer from now on: a text, or a call of a tool.
    pub fn answer_with(&self, answer: impl Into<Answer>) {
        self.world().script = Script::Fixed(answer.into());
    }

    /// Makes the answers from now on out of the request's JSON.
    pub fn answer_fn<A: Into<Answer>>(&self, make: impl Fn(&Value) -> A + Send + Sync + 'static) {
        self.world().script = Script::Made(Arc::new(move |body| make(body).into()));
    }

    /// Makes the vectors from now on, unless a request names its dimensions. Otherwise they are [`vector`]s.
    pub fn embed_fn(&self, make: impl Fn(&str) -> Vec<f32> + Send + Sync + 'static) {
        self.world().embed = Arc::new(make);
    }

    /// The key to expect; `None`: any or none.
    pub fn expect_key(&self, key: Option<&str>) {
        self.world().key = key.map(str::to_owned);
    }

    /// The only models there are.
    pub fn models(&self, models: &[&str]) {
        self.world().models = Some(models.iter().map(|model| (*model).to_owned()).collect());
    }

    /// A last message of the assistant is refused with 400, as newer models do.
    pub fn refuse_prefill(&self, refuse: bool) {
        self.world().refuses_prefill = refuse;
    }

    /// Counts against these limits, tells of them in Groq's headers, and refuses with 429 what is over.
    pub fn limit(&self, limits: Limits) {
        self.world().meter = Some(limits::Meter::new(limits, Instant::now()));
    }

    /// How many are answered at a time (`OLLAMA_NUM_PARALLEL`); others wait inside, at most `waiting` of them
    /// (`OLLAMA_MAX_QUEUE`), and more are refused with 503.
    pub fn parallel(&self, at_a_time: usize, waiting: usize) {
        let mut world = self.world();
        world.slots = Some(Arc::new(Semaphore::new(at_a_time)));
        world.most_waiting = waiting;
    }

    // How fast.

    /// At most so many pieces of content in a stream. 4 at first.
    pub fn chunks(&self, chunks: usize) {
        self.world().pace.chunks = chunks;
    }

    /// The pause between two pieces of content. None at first.
    pub fn chunk_pause(&self, pause: Duration) {
        self.world().pace.pause = pause;
    }

    /// The time before an answer begins. None at first.
    pub fn latency(&self, latency: Duration) {
        self.world().pace.latency = latency;
    }

    /// Answers that begin from now on wait inside for [`Provider::release`].
    pub fn hold(&self) {
        self.world().gate = Some(Arc::new(Semaphore::new(0)));
    }

    /// Lets so many held answers go, the longest waiting first.
    pub fn release(&self, count: usize) {
        if let Some(gate) = &self.world().gate {
            gate.add_permits(count);
        }
    }

    /// Lets all held answers go, and holds none from now on.
    pub fn release_all(&self) {
        if let Some(gate) = self.world().gate.take() {
            gate.close();
        }
    }

    // What goes wrong.

    /// The next requests for an answer go wrong, one fault each, after those that wait to be played. A request that the
    /// double refuses by itself takes no fault.
    pub fn play(&self, faults: Vec<Fault>) {
        self.world().faults.extend(faults);
    }

    /// Every request goes wrong, those for a list of models too, until [`Provider::healthy`].
    pub fn always(&self, fault: Fault) {
        self.world().lasting = Some(Lasting::Always(fault));
    }

    /// Every second request for an answer goes wrong, the next one first, until [`Provider::healthy`].
    pub fn flap(&self, fault: Fault) {
        self.world().lasting = Some(Lasting::Flap(fault, true));
    }

    /// Nothing goes wrong any more.
    pub fn healthy(&self) {
        let mut world = self.world();
        world.faults.clear();
        world.lasting = None;
    }

    /// Faults that are still to be played.
    #[must_use]
    pub fn unplayed(&self) -> usize {
        self.world().faults.len()
    }

    // What happened.

    /// Requests that came, answered well or not.
    #[must_use]
    pub fn calls(&self) -> usize {
        usize::try_from(self.world().calls).expect("fewer requests than that")
    }

    /// The same for one path.
    #[must_use]
    pub fn calls_of(&self, path: &str) -> usize {
        self.world().paths.get(path).copied().unwrap_or(0)
    }

    /// All requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.world().requests.clone()
    }

    /// Whether [`Provider::requests`] are kept; a benchmark has no room for millions. They are at first.
    pub fn keep_requests(&self, keep: bool) {
        self.world().keeps_requests = keep;
    }

    /// Requests under way, those that wait inside among them.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.world().in_flight
    }

    /// The most that were under way at a time.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.world().max_in_flight
    }

    /// Requests that wait inside for a slot of [`Provider::parallel`].
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.world().waiting
    }

    /// Requests whose client went away before the answer was over.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.world().cancelled
    }

    /// What clients did that is not documented, each once.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.world().violations.clone()
    }

    /// Tokens that would be on the bill: of whole answers, and of broken streams what had been written. An answer that is
    /// an error costs nothing.
    #[must_use]
    pub fn billed(&self) -> Billed {
        self.world().billed
    }

    /// Waits until so many requests came.
    ///
    /// # Panics
    /// When `within` is over first.
    pub async fn wait_for_calls(&self, count: usize, within: Duration) {
        let what = format!("{count} calls");
        wait_until(within, &what, || {
            let there = self.calls() >= count;
            async move { there }
        })
        .await;
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(running) = self.running().take() {
            // The task drops its connections with itself.
            running.task.abort();
        }
    }
}

/// Others may bind the port too, as long as nobody listens on it; Linux then gives it to no one who asks for any port.
fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("SO_REUSEADDR");
    socket
}

fn run(address: SocketAddr, shared: &Arc<Shared>) -> Running {
    let socket = socket();
    socket.bind(address).expect("its port");
    let listener = socket.listen(1_024).expect("to listen");
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(server::serve(listener, Arc::clone(shared), stopped));
    Running { stop, task }
}
