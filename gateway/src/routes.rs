//! From verb and path to what answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;

use crate::Error;
use crate::contract::{Contract, Endpoint};
use crate::template::Template;

/// What the gateway answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    OpenApi,
    Docs,
    Health,
    Readiness,
    Metrics,
}

impl System {
    /// Every route of the gateway's own, with what it is for.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::OpenApi, "/api/v1/openapi.json", "This document."),
        (Self::Docs, "/docs", "A page that lists the routes."),
        (Self::Health, "/healthz", "Whether the gateway is alive."),
        (Self::Readiness, "/readyz", "Whether every member is ready, and what is still missing."),
        (Self::Metrics, "/metrics", "Requests by route and status, and how long they took, as Prometheus text."),
    ];
}

/// What answers a route.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Rpc(Arc<Endpoint>),
    System(System),
}

/// One verb and path.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) verb: Method,
    pub(crate) template: Template,
    /// The template as text: the route's name in logs and metrics.
    pub(crate) name: String,
    pub(crate) target: Target,
}

/// Every route, the most literal first.
#[derive(Debug)]
pub(crate) struct Routes(Vec<Route>);

/// What a verb and a path lead to.
#[derive(Debug)]
pub(crate) enum Found<'r, 'p> {
    /// A route, with the raw segments that stand for its variables.
    Route(&'r Route, Vec<&'p str>),
    /// The path is there for other verbs.
    WrongVerb(String),
    /// Nothing.
    Nothing,
}

impl Routes {
    /// Routes of the contract and the gateway's own.
    ///
    /// # Errors
    /// Names two RPCs that ask for the same route.
    pub(crate) fn build(contract: &Contract) -> Result<Self, Error> {
        let mut routes = Vec::new();
        for endpoint in contract.endpoints() {
            let target = Target::Rpc(Arc::clone(endpoint));
            routes.push(Route::new(endpoint.verb.clone(), endpoint.template.clone(), target));
        }
        for (system, path, _) in System::ALL {
            let template = Template::parse(path).map_err(Error::Contract)?;
            routes.push(Route::new(Method::GET, template, Target::System(system)));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = routes.iter().find(|route| !seen.insert((route.verb.to_string(), route.template.shape())))
        {
            return Err(Error::Contract(format!("{} {} is there twice", twice.verb, twice.name)));
        }
        routes.sort_by(|one, other| one.template.precedence(&other.template));
        Ok(Self(routes))
    }

    /// Finds the most literal route; HEAD is answered as GET without its body.
    pub(crate) fn find<'p>(&self, verb: &Method, path: &'p str) -> Found<'_, 'p> {
        let verb = if verb == Method::HEAD { &Method::GET } else { verb };
        let mut allowed = BTreeSet::new();
        for route in &self.0 {
            let Some(captures) = route.template.matches(path) else {
                continue;
            };
            if route.verb == *verb {
                return Found::Route(route, captures);
            }
            allowed.insert(route.verb.to_string());
            if route.verb == Method::GET {
                allowed.insert(Method::HEAD.to_string());
            }
        }
        if allowed.is_empty() {
            Found::Nothing
        } else {
            Found::WrongVerb(allowed.into_iter().collect::<Vec<_>>().join(", "))
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }
}

impl Route {
    fn new(verb: Method, template: Template, target: Target) -> Self {
        Self { verb, name: template.to_string(), template, target }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        Routes::build(&Contract::read(attain_proto::DESCRIPTORS).expect("valid")).expect("no conflicts")
    }

    #[test]
    fn literal_paths_win_and_other_verbs_fall_through() {
        let routes = routes();
        let name = |verb: Method, path: &str| match routes.find(&verb, path) {
            Found::Route(route, captures) => format!("{} {captures:?}", route.name),
            Found::WrongVerb(allow) => format!("allow {allow}"),
            Found::Nothing => "nothing".into(),
        };
        let cases = [
            (Method::POST, "/api/v1/services/dependencies", "/api/v1/services/dependencies []"),
            (Method::GET, "/api/v1/services/dependencies", "/api/v1/services/{service_id} [\"dependencies\"]"),
            (Method::HEAD, "/api/v1/services", "/api/v1/services []"),
            (
                Method::GET,
                "/api/v1/knowledge/documents/runbooks%2Fa",
                "/api/v1/knowledge/documents/{document_id} [\"runbooks%2Fa\"]",
            ),
            (Method::PATCH, "/api/v1/services/a/slos", "allow GET, HEAD, POST"),
            (Method::DELETE, "/healthz", "allow GET, HEAD"),
            (Method::GET, "/", "nothing"),
            (Method::GET, "/api/v1/services/a/", "nothing"),
        ];
        for (verb, path, expected) in cases {
            assert_eq!(name(verb.clone(), path), expected, "{verb} {path}");
        }
    }
}
