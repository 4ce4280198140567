//! `[acme]`

use crate::config::defaults::DAY;
use crate::config::document::{Section, wrong};
use crate::config::{Acme, Listener, values};

/// None unless the section is there.
pub(super) fn acme(mut section: Section<'_>, listeners: &[Listener]) -> Option<Acme> {
    if !section.is_present() {
        return None;
    }
    let path = values::path(section.folder());
    let directory = section.required(
        "directory",
        values::https_url,
        r#"directory = "https://acme-v02.api.letsencrypt.org/directory""#,
    );
    let agreed = section.required(
        "terms_of_service_agreed",
        values::boolean,
        "terms_of_service_agreed = true, once you have read the authority's terms",
    );
    if agreed == Some(false) {
        let cure = "write true once you have read the authority's terms, or take [acme] out";
        section.check("terms_of_service_agreed", wrong("no authority gives certificates without", cure));
    }
    let ca = section.optional("ca", &path);
    let contact = section.list("contact", values::contact).unwrap_or_default();
    let renew_before = section.or("renew_before", values::duration(DAY..=DAY * 365), DAY * 30);
    if directory.is_some() && listeners.iter().all(|listener| listener.acme.is_empty()) {
        let cure = "write acme = [\"api.example.com\"] in a [[listener]], or take [acme] out";
        section.check("directory", wrong("no listener wants a certificate from there", cure));
    }
    section.finish();
    Some(Acme { ca, contact, directory: directory?, renew_before })
}
