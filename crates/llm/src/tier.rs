//! One tier: a model at a provider, asked over HTTP, with its breaker, its queue and its bounds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::time::Clock;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Response, Url};
use tokio::time::{Instant, timeout_at};

use crate::adapter::{Call, ProviderLimits, Target};
use crate::admission::{self, Gate};
use crate::answer::{Answer, Embeddings};
use crate::breaker::{self, Breaker};
use crate::config::{Access, Bounds, TierConfig};
use crate::failure::{Failure, Kind};
use crate::live::Live;
use crate::request::ChatRequest;

/// Longest error body that is read, bytes.
const ERROR_BODY: usize = 65_536;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A tier.
pub struct Tier {
    /// Its name, cheap to hand on.
    pub name: Arc<str>,
    /// How it is configured.
    pub config: TierConfig,
    /// When it is left alone.
    pub breaker: Arc<Breaker>,
    /// Who may ask next; `None`: no bound.
    pub gate: Option<Arc<Gate>>,
    http: reqwest::Client,
    /// Where it is asked, by the paths of its dialect.
    urls: BTreeMap<&'static str, Url>,
    /// Headers of every call, the key among them.
    headers: HeaderMap,
    bounds: Bounds,
    clock: Arc<dyn Clock>,
    latency: Mutex<Duration>,
    calls: AtomicU64,
    failures: AtomicU64,
}

impl std::fmt::Debug for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tier").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tier {
    /// A tier of this configuration; all tiers share one HTTP client.
    ///
    /// # Errors
    /// A key that can't stand in a header.
    pub fn new(
        config: TierConfig,
        bounds: Bounds,
        breaker: breaker::Settings,
        http: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Access::Keyed(key) = &config.access {
            for (name, value) in config.adapter.auth(key.reveal()) {
                let mut value = HeaderValue::from_str(&value)
                    .map_err(|_| format!("tier.{}: its key holds what can't stand in a header", config.name))?;
                value.set_sensitive(true);
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let mut urls = BTreeMap::new();
        for path in config.adapter.paths() {
            let url = Url::parse(&format!("{}{path}", config.base_url))
                .map_err(|error| format!("tier.{}: its base URL can't be used: {error}", config.name))?;
            urls.insert(*path, url);
        }
        let gate = (config.slots > 0).then(|| {
            let settings = admission::Settings { slots: config.slots, queue: config.queue, ageing: config.ageing };
            Arc::new(Gate::new(settings))
        });
        Ok(Self {
            breaker: Arc::new(Breaker::new(breaker)),
            gate,
            http,
            urls,
            headers,
            bounds,
            clock,
            latency: Mutex::new(Duration::ZERO),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            name: Arc::from(config.name.as_str()),
            config,
        })
    }

    /// The HTTP client of all tiers.
    ///
    /// # Errors
    /// When there can be none.
    pub fn client() -> Result<reqwest::Client, String> {
        // A provider that was installed before is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(256)
            .pool_idle_timeout(Duration::from_secs(55))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))
    }

    /// Its key is not there.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self.config.access, Access::Missing(_))
    }

    /// Whether it could serve this request at all.
    ///
    /// # Errors
    /// Why not.
    pub fn suits(&self, request: &ChatRequest) -> Result<(), Kind> {
        if self.is_off() {
            return Err(Kind::Off);
        }
        if request.is_prefill() && !self.config.prefill {
            return Err(Kind::PrefillRefused);
        }
        Ok(())
    }

    /// The most tokens that an answer to this request may have here.
    #[must_use]
    pub fn most_output_tokens(&self, request: &ChatRequest) -> u64 {
        request.max_tokens.unwrap_or(u64::MAX).min(self.config.max_output_tokens)
    }

    /// How long its answers usually take; zero before the first.
    #[must_use]
    pub fn usual_latency(&self) -> Duration {
        *self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls made, and those that failed.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }

    /// Notes how a call ended.
    pub fn ended(&self, took: Duration, failed: bool) {
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        *latency = if latency.is_zero() { took } else { (*latency * 7 + took) / 8 };
    }

    fn target(&self, request: &ChatRequest) -> Target<'_> {
        Target {
            model: &self.config.model,
            max_output_tokens: self.most_output_tokens(request),
            context_tokens: self.config.context_tokens,
            ..Target::default()
        }
    }

    /// Asks for a whole answer.
    ///
    /// # Errors
    /// [`Failure`]; none of them carries the prompt or the key.
    pub async fn whole(&self, request: &ChatRequest, until: Instant) -> Result<(Answer, ProviderLimits), Failure> {
        let call = self.config.adapter.chat(request, &self.target(request), false)?;
        let late = || Failure::new(Kind::Timeout, format!("no answer from {} in time", self.config.name));
        let asked = async {
            let response = self.send(call).await?;
            let limits = self.limits(&response);
            let body = self.body(response, self.bounds.max_answer_bytes).await?;
            Ok((self.config.adapter.answer(request, &body)?, limits))
        };
        timeout_at(until, asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// Asks for a streamed answer and waits for its first content, so that until then another tier can take over unseen.
    ///
    /// # Errors
    /// [`Failure`], whatever went wrong before the first content.
    pub async fn open(
        &self,
        request: &ChatRequest,
        first_token_until: Instant,
        until: Instant,
    ) -> Result<(Live, ProviderLimits), Failure> {
        let call = self.config.adapter.chat(request, &self.target(request), true)?;
        let late = || Failure::new(Kind::FirstTokenTimeout, format!("no content from {} in time", self.config.name));
        let asked = async {
            let response = self.send(call).await?;
            let limits = self.limits(&response);
            let mut live =
                Live::new(response, self.config.adapter.decoder(request), self.config.idle, until, &self.bounds);
            live.hold_back(self.bounds.hold_back_bytes).await?;
            Ok((live, limits))
        };
        timeout_at(first_token_until.min(until), asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// Asks for vectors.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn embed(&self, texts: &[String], until: Instant) -> Result<(Embeddings, ProviderLimits), Failure> {
        let target = Target { model: &self.config.model, ..Target::default() };
        let call = self.config.adapter.embed(texts, &target, None)?;
        let late = || Failure::new(Kind::Timeout, format!("no answer from {} in time", self.config.name));
        let asked = async {
            let response = self.send(call).await?;
            let limits = self.limits(&response);
            let body = self.body(response, self.bounds.max_answer_bytes.saturating_mul(4)).await?;
            Ok((self.config.adapter.embeddings(texts, &body)?, limits))
        };
        timeout_at(until, asked).await.unwrap_or_else(|_| Err(late()))
    }

    async fn send(&self, call: Call) -> Result<Response, Failure> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let Some(url) = self.urls.get(call.path) else {
            return Err(Failure::new(Kind::Internal, format!("{} is no path of its dialect", call.path)));
        };
        let mut request = Request::new(Method::POST, url.clone());
        request.headers_mut().clone_from(&self.headers);
        *request.body_mut() = Some(call.body.into());
        let sent = self.http.execute(request).await;
        let response = sent.map_err(|error| transport(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        // Its words help, its status decides: an error whose body does not come whole is that error all the same.
        let body = self.body(response, ERROR_BODY).await.unwrap_or_default();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Err(self.config.adapter.refusal(status, header, self.clock.now(), &body))
    }

    fn limits(&self, response: &Response) -> ProviderLimits {
        let headers = response.headers();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        self.config.adapter.limits(header, self.clock.now())
    }

    async fn body(&self, mut response: Response, most: usize) -> Result<Bytes, Failure> {
        let first = response.chunk().await.map_err(|error| transport(&error))?.unwrap_or_default();
        let mut whole = BytesMut::new();
        loop {
            let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? else {
                // Most answers are one chunk and need no copy.
                if whole.is_empty() {
                    return if first.len() > most { Err(too_large(most)) } else { Ok(first) };
                }
                return Ok(whole.freeze());
            };
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&chunk);
            if whole.len() > most {
                return Err(too_large(most));
            }
        }
    }
}

pub(crate) fn too_large(most: usize) -> Failure {
    Failure::new(Kind::TooLarge, format!("an answer of more than {most} bytes"))
}

/// What an error of the HTTP client was. Its text would name the address, so it is not shown.
pub(crate) fn transport(error: &reqwest::Error) -> Failure {
    if error.is_connect() {
        Failure::new(Kind::Unreachable, "no connection")
    } else if error.is_timeout() {
        Failure::new(Kind::Timeout, "the connection timed out")
    } else {
        Failure::new(Kind::Reset, "the connection was cut")
    }
}
