//! From a connection to its answers.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fault::{Fault, Flaw, Refusal, Trouble};
use super::limits;
use super::play::{self, Stage};
use super::talk::{Chat, Embed, Flavour, Reply, Route};
use super::wire::{Outcome, Request, Step, Wire};
use super::world::{Flight, Script, Shared, Waiting, World};
use super::{Dialect, anthropic, embed, ollama, openai, openai_request};

/// Serves until it is told to stop; then neither listener nor connection is left.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let mut wire = Wire::new(stream);
    while let Some(request) = wire.request().await {
        let keep_alive = match &request {
            Ok(request) => request.keep_alive,
            Err(_) => false,
        };
        let outcome = match request {
            Ok(request) => exchange(&mut wire, &shared, &request).await,
            Err(words) => {
                shared.world().violation(format!("not HTTP: {words}"));
                let stage = stage(&shared, Flavour::OpenAi, None);
                wire.run(play::not_http(&stage, words), |_| {}).await
            }
        };
        if outcome == Outcome::Gone {
            shared.world().cancelled += 1;
        }
        if outcome != Outcome::Done || !keep_alive {
            return;
        }
    }
}

/// What a request asks for.
enum Asked {
    Chat(Chat),
    Embed(Embed),
    List(Value),
}

/// Answers one request.
async fn exchange(wire: &mut Wire, shared: &Arc<Shared>, request: &Request) -> Outcome {
    let body = serde_json::from_slice::<Value>(&request.body).ok();
    let (flight, number) = Flight::begin(shared, request, body.as_ref());
    let found = route(shared.dialect, &request.method, &request.path);
    let flavour = found.map_or(Flavour::OpenAi, |(flavour, _)| flavour);
    let judged = judge(shared, request, found, body.as_ref());
    let fault = match &judged {
        Ok(asked) => shared.world().next_fault(!matches!(asked, Asked::List(_))),
        Err(_) => None,
    };
    let stage = stage(shared, flavour, fault);
    let answers = matches!(judged, Ok(Asked::Chat(_) | Asked::Embed(_)));
    let steps = match judged {
        Err(refusal) => stage.refused(&refusal),
        Ok(Asked::List(list)) => stage.whole("", &list, (0, 0)),
        Ok(Asked::Chat(chat)) => {
            let script = shared.world().script.clone();
            let answer = match script {
                Script::Own => None,
                Script::Fixed(answer) => Some(answer),
                Script::Made(made) => Some(made(body.as_ref().unwrap_or(&Value::Null))),
            };
            let reply = Reply::new(number, &chat, answer, stage.pace.chunks);
            stage.chat(&chat, reply)
        }
        Ok(Asked::Embed(asked)) => {
            let vectors = vectors(shared, &asked, stage.fault.as_ref());
            let list = match shared.dialect {
                Dialect::Ollama => ollama::embeddings(&asked, vectors),
                _ => openai::embeddings(&asked, vectors),
            };
            stage.whole(&asked.model, &list, (asked.prompt_tokens, 0))
        }
    };
    let outcome = if answers { in_turn(wire, shared, &stage, steps).await } else { run(wire, shared, steps).await };
    drop(flight);
    outcome
}

/// Waits for a slot and for the gate, then answers.
async fn in_turn(wire: &mut Wire, shared: &Arc<Shared>, stage: &Stage, steps: Vec<Step>) -> Outcome {
    let (slots, gate) = {
        let world = shared.world();
        (world.slots.clone(), world.gate.clone())
    };
    let mut slot: Option<OwnedSemaphorePermit> = None;
    if let Some(slots) = slots {
        slot = Arc::clone(&slots).try_acquire_owned().ok();
        if slot.is_none() {
            let Some(waiting) = Waiting::begin(shared) else {
                return run(wire, shared, stage.refused(&Refusal::of(503, Trouble::Busy))).await;
            };
            let Some(got) = wire.unless_gone(slots.acquire_owned()).await else { return Outcome::Gone };
            slot = got.ok();
            drop(waiting);
        }
    }
    if let Some(gate) = gate {
        match wire.unless_gone(gate.acquire_owned()).await {
            None => return Outcome::Gone,
            Some(Ok(permit)) => permit.forget(),
            // The gate was opened for all.
            Some(Err(_)) => {}
        }
    }
    let outcome = run(wire, shared, steps).await;
    drop(slot);
    outcome
}

async fn run(wire: &mut Wire, shared: &Arc<Shared>, steps: Vec<Step>) -> Outcome {
    wire.run(steps, |bills| {
        if bills != (0, 0) {
            shared.world().bill(bills);
        }
    })
    .await
}

fn stage(shared: &Arc<Shared>, flavour: Flavour, fault: Option<Fault>) -> Stage {
    let mut world = shared.world();
    let now = Instant::now();
    let limits = world.meter.as_mut().map_or_else(String::new, |meter| meter.headers(now));
    Stage { dialect: shared.dialect, flavour, pace: world.pace, limits, fault }
}

fn vectors(shared: &Arc<Shared>, asked: &Embed, fault: Option<&Fault>) -> Vec<Value> {
    if matches!(fault, Some(Fault::EmptyChoices | Fault::EmptyContent)) {
        return Vec::new();
    }
    let made = Arc::clone(&shared.world().embed);
    let vector = |text: &String| {
        let vector = match asked.dimensions {
            Some(dimensions) => embed::vector(text, dimensions),
            None => made(text),
        };
        embed::written(&vector, asked.base64)
    };
    asked.inputs.iter().map(vector).collect()
}

fn route(dialect: Dialect, method: &str, path: &str) -> Option<(Flavour, Route)> {
    match dialect {
        Dialect::OpenAi => openai_request::route(method, path),
        Dialect::Ollama => ollama::route(method, path).map(|route| (Flavour::OpenAi, route)),
        Dialect::Anthropic => anthropic::route(method, path).map(|route| (Flavour::OpenAi, route)),
    }
}

/// Holds the request to what is documented, and writes down where it is not.
fn judge(
    shared: &Arc<Shared>,
    request: &Request,
    found: Option<(Flavour, Route)>,
    body: Option<&Value>,
) -> Result<Asked, Refusal> {
    let mut world = shared.world();
    let asked = asked(shared.dialect, &mut world, request, found, body);
    if let Err(refusal) = &asked {
        let at = format!("{} {}", request.method, request.path);
        match &refusal.trouble {
            Trouble::Invalid(flaw) => world.violation(format!("{at}: {}", flaw.words())),
            Trouble::NoRoute(_) => world.violation(format!("{at}: no such path")),
            _ => {}
        }
    }
    asked
}

fn asked(
    dialect: Dialect,
    world: &mut World,
    request: &Request,
    found: Option<(Flavour, Route)>,
    body: Option<&Value>,
) -> Result<Asked, Refusal> {
    let (flavour, route) = found.ok_or_else(|| Refusal::of(404, Trouble::NoRoute(request.path.clone())))?;
    authorised(dialect, world, request)?;
    let named = || world.models.clone().unwrap_or_else(|| vec!["double".to_owned()]);
    let asked = match (route, dialect) {
        (Route::Version, _) => return Ok(Asked::List(ollama::version())),
        (Route::Models, Dialect::OpenAi) => return Ok(Asked::List(openai::models(&named()))),
        (Route::Models, Dialect::Ollama) => return Ok(Asked::List(ollama::models(&named()))),
        (Route::Models, Dialect::Anthropic) => return Ok(Asked::List(anthropic::models(&named()))),
        (Route::Chat, Dialect::OpenAi) => Asked::Chat(openai_request::chat(flavour, object(request, body)?)?),
        (Route::Chat, Dialect::Ollama) => Asked::Chat(ollama::chat(object(request, body)?)?),
        (Route::Chat, Dialect::Anthropic) => Asked::Chat(anthropic::chat(object(request, body)?)?),
        (Route::Embed, Dialect::Ollama) => Asked::Embed(ollama::embed(object(request, body)?)?),
        (Route::Embed, _) => Asked::Embed(openai_request::embed(object(request, body)?)?),
    };
    let (model, prompt, prefilled) = match &asked {
        Asked::Chat(chat) => (&chat.model, chat.prompt_tokens, chat.prefilled),
        Asked::Embed(embed) => (&embed.model, embed.prompt_tokens, false),
        Asked::List(_) => return Ok(asked),
    };
    if world.models.as_ref().is_some_and(|models| !models.contains(model)) {
        return Err(Refusal::of(404, Trouble::NoModel(model.clone())));
    }
    if prefilled && world.refuses_prefill {
        return Err(Refusal::of(400, Trouble::Prefill));
    }
    admit(world, model, prompt)?;
    Ok(asked)
}

fn authorised(dialect: Dialect, world: &World, request: &Request) -> Result<(), Refusal> {
    let given = match dialect {
        Dialect::Anthropic => request.header("x-api-key"),
        _ => request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")),
    };
    if world.key.is_some() && given != world.key.as_deref() {
        return Err(Refusal::of(401, Trouble::Unauthorized));
    }
    if dialect == Dialect::Anthropic {
        match request.header("anthropic-version") {
            None => return Err(Flaw::Missing("anthropic-version".to_owned()).into()),
            Some("2023-06-01" | "2023-01-01") => {}
            Some(other) => {
                return Err(Flaw::value("anthropic-version", format!("\"{other}\" is not a valid version")).into());
            }
        }
    }
    Ok(())
}

/// The body, which must be called JSON and be a JSON object.
fn object<'a>(request: &Request, body: Option<&'a Value>) -> Result<&'a Map<String, Value>, Refusal> {
    let kind = request.header("content-type").unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() != "application/json" {
        return Err(Flaw::Request(format!("the content-type is {kind:?} and must be application/json")).into());
    }
    let flaw = || Refusal::from(Flaw::Request("the body is no JSON object".to_owned()));
    body.and_then(Value::as_object).ok_or_else(flaw)
}

fn admit(world: &mut World, model: &str, prompt: u64) -> Result<(), Refusal> {
    let Some(meter) = &mut world.meter else { return Ok(()) };
    meter.admit(prompt, Instant::now()).map_err(|over| {
        let unit = if over.which == "tokens" { "tokens per minute (TPM)" } else { "requests per day (RPD)" };
        let words = format!(
            "Rate limit reached for model `{model}` in organization `org_double` service tier `on_demand` on {unit}: \
             Limit {}, Used {}, Requested {}. Please try again in {}.",
            over.limit,
            over.used,
            if over.which == "tokens" { prompt } else { 1 },
            limits::go(over.wait)
        );
        let retry_after = u64::try_from(over.wait.as_millis()).ok();
        Refusal { status: 429, trouble: Trouble::Limited(words, over.which), retry_after }
    })
}
