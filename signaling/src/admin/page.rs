//! The page that shows the mesh: files alone, the same for everybody. What is on it comes from the API, which
//! asks for the token.

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;

use crate::web::operators_file;

pub(super) fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/mesh") }))
        .route("/mesh", get(operators_file))
        .route("/assets/{file}", get(operators_file))
        .route("/icon.svg", get(operators_file))
}
