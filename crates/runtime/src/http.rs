//! Metrics and health over HTTP, on 127.0.0.1 alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::core::Core;

/// Opens the port, and writes it to `<run_dir>/<agent>.http` so that others find a picked one.
pub(crate) async fn open(port: u16, run_dir: Option<&Path>, agent: &str) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    if let Some(dir) = run_dir {
        write_port(dir, &format!("{agent}.http"), listener.local_addr()?.port())?;
    }
    Ok(listener)
}

/// Writes a port that was picked into a file of the run folder, where others find it. Written beside and renamed, so that
/// nobody reads half a number.
///
/// # Errors
/// What the file system says.
pub fn write_port(run_dir: &Path, file: &str, port: u16) -> std::io::Result<()> {
    let half = run_dir.join(format!(".{file}"));
    std::fs::write(&half, port.to_string())?;
    std::fs::rename(&half, run_dir.join(file))
}

/// All metrics of this process as text, for a service that shows them at a port of its own too.
#[must_use]
pub fn metrics_text() -> String {
    crate::meters::install().as_ref().map(PrometheusHandle::render).unwrap_or_default()
}

/// Serves until it is aborted.
pub(crate) async fn serve(listener: TcpListener, core: Arc<Core>, metrics: Option<PrometheusHandle>) {
    let health = Arc::clone(&core);
    let ready = Arc::clone(&core);
    let router = Router::new()
        .route(
            "/metrics",
            get(move || async move { metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default() }),
        )
        .route("/healthz", get(move || async move { healthz(&health) }))
        .route("/readyz", get(move || async move { readyz(&ready) }));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the metrics and health port ended");
    }
}

fn healthz(core: &Core) -> (StatusCode, String) {
    let progress = core.vitals.progress();
    if core.vitals.healthy() {
        (StatusCode::OK, format!("ok, progress {progress}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("no progress since {progress}\n"))
    }
}

fn readyz(core: &Core) -> (StatusCode, String) {
    let mut reasons = core.vitals.unready();
    if core.shutdown.is_cancelled() {
        reasons.push("draining");
    }
    if reasons.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join(", ")))
    }
}
