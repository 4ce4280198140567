//! `[[upstream]]`

use std::sync::Arc;

use super::Earlier;
use crate::config::document::Section;
use crate::config::{Upstream, values};

/// The names of all upstreams, also of those with a problem, so that routes to them have none.
pub(super) fn upstreams(root: &mut Section<'_>) -> (Vec<String>, Vec<Upstream>) {
    let mut earlier = Earlier::default();
    let mut names = Vec::new();
    let mut upstreams = Vec::new();
    for mut section in root.required_sections("upstream", "[[upstream]] with name and endpoints") {
        let name = section.required("name", values::name, r#"name = "app""#);
        let write = r#"endpoints = ["http://127.0.0.1:8080"]"#;
        let endpoints = section.required_list("endpoints", values::endpoint, write);
        if let Some(name) = name {
            earlier.check(&section, "name", name.clone(), String::eq);
            upstreams
                .push(Upstream { endpoints: endpoints.unwrap_or_default(), name: Arc::from(name.as_str()) });
            names.push(name);
        }
        section.finish();
    }
    (names, upstreams)
}
