//! The table of all routes: from it are made the router, the checks of who may and of what may be
//! asked, and the description at `/openapi.json`. So none of them can say what another does not.

use std::pin::Pin;

use super::access::Need;
use super::call::{Call, Said};
use super::{boundary, openapi, operations, ordered, page, views, visits};

/// What a route does.
pub type Serve = fn(Call) -> Pin<Box<dyn Future<Output = Said> + Send>>;

/// A way to ask something.
pub struct Route {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// Its path, with what varies in braces.
    pub path: &'static str,
    /// Who may.
    pub need: Need,
    /// What it is, in a sentence.
    pub summary: &'static str,
    /// What its query may say; `None` if it has a check of its own.
    pub query: Option<&'static [&'static str]>,
    /// What it answers.
    pub answers: Answers,
    /// Does it.
    pub serve: Serve,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// JSON of this schema, or of any.
    Json(&'static str),
    /// JSON of this schema, of something new.
    Created(&'static str),
    /// Server-sent events; which, in words.
    Events(&'static str),
    /// A line of JSON for each, of this schema, after one with the tick.
    Lines(&'static str),
    /// Something of this type.
    Bytes(&'static str),
    /// Nothing.
    Nothing,
}

macro_rules! routes {
    ($($method:literal $path:literal $need:ident $query:tt $answers:expr, $serve:path, $summary:literal;)*) => {
        &[$(Route {
            method: $method,
            path: $path,
            need: Need::$need,
            summary: $summary,
            query: routes!(@query $query),
            answers: $answers,
            serve: |call| Box::pin($serve(call)),
        }),*]
    };
    (@query [own]) => { None };
    (@query [$($name:literal),*]) => { Some(&[$($name),*]) };
}

use Answers::{Bytes, Created, Events, Json, Lines, Nothing};

/// All routes, in the order of the description.
#[rustfmt::skip]
pub static ROUTES: &[Route] = routes! {
    "GET" "/" Nothing [own] Bytes("text/html"), page::index, "The page.";
    "GET" "/{file}" Nothing [] Bytes("*/*"), page::file, "A file of the page: its style, scripts, icon.";
    "GET" "/openapi.json" Nothing [] Json("Any"), openapi::read, "This description.";
    "GET" "/healthz" Nothing [] Bytes("text/plain"), operations::healthz, "Whether the process lives.";
    "GET" "/metrics" Operations [] Bytes("text/plain"), operations::metrics, "Metrics of this process, for Prometheus.";
    "GET" "/progress" Any [] Json("Progress"), operations::progress, "How far the job has come.";
    "GET" "/progress/changes" Any [] Events("`progress` each second, a Progress"), operations::progress_changes,
        "How far the job has come, each second.";
    "GET" "/why" Any [] Bytes("text/plain"), operations::why, "What the job's time stands on, as `visitflow why`.";
    "GET" "/views" Anonymous [] Json("Views"), views::list, "All views.";
    "GET" "/views/{name}" Anonymous [own] Json("View"), views::read,
        "A view as of one tick: the newest, or `tick`. Fields of its key choose rows: `entity_id=p17`.";
    "GET" "/views/{name}/changes" Anonymous [] Events(
        "`snapshot`, {tick, rows}; then `change`, {tick, gone, rows}: rows to remove, and new ones"),
        views::changes, "A view, and then what changes.";
    "GET" "/orders" Identified ["limit"] Json("Orders"), ordered::read, "The newest orders, with what led to each.";
    "GET" "/orders/changes" Identified ["limit"] Events(
        "`snapshot`, Orders; then `order`, an Order: a new one, or one that takes the place of that with the same \
         order_event"), ordered::changes, "The newest orders, and then each as it comes or is corrected.";
    "GET" "/visits" Identified ["limit", "agent", "browser"] Json("Visits"), visits::list,
        "Some open visits, lately begun ones first; or all of a `browser`.";
    "GET" "/visits/{visit_id}" Identified [] Json("WholeVisit"), visits::read,
        "An open visit with its measurements. 410 if it has ended.";
    "GET" "/visits/{visit_id}/changes" Identified [] Events(
        "`visit`, a WholeVisit, when it has changed; `end`, {visit_id, tick, reason}"), visits::changes,
        "An open visit whenever it has grown, at most once a second, until it ends.";
    "GET" "/profiles/{customer_id}" Identified [] Json("Profile"), visits::profile, "What is known of a customer.";
    "GET" "/boundary" Anonymous [] Json("Boundary"), boundary::read, "Up to where the tables' newest versions reach.";
    "POST" "/boundary/holds" Identified [] Created("Hold"), boundary::take,
        "Holds the newest version of the table of visits, for {\"seconds\": N}.";
    "PUT" "/boundary/holds/{hold}" Identified [] Json("Hold"), boundary::extend,
        "Lets a hold live for {\"seconds\": N} from now on. 410 if it has ended.";
    "DELETE" "/boundary/holds/{hold}" Identified [] Nothing, boundary::end, "Ends a hold. 410 if it has ended.";
    "GET" "/boundary/holds/{hold}/visits" Identified [] Lines("LiveVisit"), boundary::visits,
        "Every visit that the held version does not have, as of one tick. 410 if the hold has ended.";
};
