//! The router by itself: no broker, no record. For trying models, for measuring, for tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use llm::provenance::NoRecord;
use runtime::clock::SystemClock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Config, Site, serve};

/// Serves until `stop`; `opened` hears the address.
///
/// # Errors
/// What is wrong with the configuration or the port.
pub async fn run(
    vars: &BTreeMap<String, String>,
    config_dir: &Path,
    stop: CancellationToken,
    opened: impl FnOnce(std::net::SocketAddr),
) -> Result<(), String> {
    // Before anything else: the router takes its counters when it is made, and those of no recorder would count nothing.
    drop(runtime::metrics_text());
    // Aborted when it goes out of scope.
    let mut beside = JoinSet::new();
    beside.spawn(runtime::metrics_upkeep());
    let config = Config::check(vars, config_dir).map_err(|faults| faults.to_string())?;
    let router = config.open(None, Arc::new(NoRecord), Arc::new(SystemClock)).await?;
    let listener = config.listen(None).await.map_err(|error| error.to_string())?;
    opened(listener.local_addr().map_err(|error| error.to_string())?);
    let site = Site::new(router, config.keys.clone(), None);
    serve(listener, Arc::new(site), stop).await.map_err(|error| error.to_string())
}
