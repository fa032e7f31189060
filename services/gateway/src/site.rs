//! The site: its routes and what they share.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use domain::time::{Clock, UnixMs};
use runtime::CancellationToken;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::attempts::Attempts;
use crate::desk::Desk;
use crate::doors::Doors;
use crate::guard::{Names, guard};
use crate::session::Sessions;
use crate::{assets, handlers, live};

/// Largest form, bytes.
const MAX_FORM_BYTES: usize = 16 * 1_024;
/// Pages that are kept up to date at once.
const MAX_LIVE: usize = 32;

/// What all pages share.
#[derive(Debug)]
pub struct Site {
    pub(crate) doors: Doors,
    pub(crate) desk: Desk,
    pub(crate) sessions: Sessions,
    pub(crate) attempts: Attempts,
    pub(crate) names: Names,
    pub(crate) shutdown: CancellationToken,
    pub(crate) live: Arc<Semaphore>,
    clock: ClockPort,
}

struct ClockPort(Arc<dyn Clock>);

impl std::fmt::Debug for ClockPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Site {
    /// A site that asks the services over this connection.
    #[must_use]
    pub fn new(client: async_nats::Client, clock: Arc<dyn Clock>, names: Names, shutdown: CancellationToken) -> Self {
        let doors = Doors::new(client);
        Self {
            desk: Desk::new(doors.clone(), Arc::clone(&clock)),
            doors,
            sessions: Sessions::default(),
            attempts: Attempts::default(),
            names,
            shutdown,
            live: Arc::new(Semaphore::new(MAX_LIVE)),
            clock: ClockPort(clock),
        }
    }

    /// Now, by the process's clock.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.clock.0.now()
    }
}

/// The routes. What changes something is a POST and nothing else; what is read changes nothing.
pub fn routes(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(handlers::desk))
        .route("/trades", get(handlers::trades))
        .route("/agents", get(handlers::agents))
        .route("/limits", get(handlers::limits))
        .route("/approvals/{id}", get(handlers::request))
        .route("/approvals/{id}/decide", post(handlers::decide))
        .route("/stop", get(handlers::stop_page).post(handlers::stop))
        .route("/login", get(handlers::login_page).post(handlers::login))
        .route("/logout", post(handlers::logout))
        .route("/events", get(live::events))
        .route("/assets/{name}", get(assets::serve))
        .fallback(handlers::nothing_here)
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

/// Serves until shutdown; live pages end with it.
///
/// # Errors
/// What the system says of the port.
pub async fn serve(listener: TcpListener, site: Arc<Site>) -> std::io::Result<()> {
    let stop = site.shutdown.clone();
    axum::serve(listener, routes(site)).with_graceful_shutdown(stop.cancelled_owned()).await
}
