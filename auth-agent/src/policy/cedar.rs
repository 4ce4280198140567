//! Policies in the language Cedar, for what bindings can't say.
//!
//! What they see has a schema that comes of the configuration ([`schema`]): the claims with their types, the routes that
//! name the policy with their methods, the names in their paths. Policies are held against it when they are read, so that
//! one which can go wrong for its types is not taken. Whatever goes wrong after that refuses the request.
//!
//! principal: the credential. action: method and route. resource: the object, with what the path holds for the route's
//! names, decoded. context: where and when the request came from, how it authenticated, its scopes.

mod looks;
mod recent;
mod schema;
mod slices;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::{
    Authorizer, Decision, Entities, Entity, EntityUid, PolicyId, PolicySet, Request, Response, Schema,
    ValidationMode, Validator,
};
use http::Method;
use miette::Diagnostic;

use self::recent::{Principals, Sources};
use self::slices::{Slicer, Slices};
use self::values::{Types, kind};
use super::object::Asked;
use crate::config::{Config, Policy, PolicyClaim, Route};
use crate::fingerprint::fingerprint;
use crate::identity::Identity;

/// No file of policies is longer.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why policies were not taken.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// They are not as the language has it, or don't fit what the configuration says.
    #[error("policy `{policy}`: {file}: {problem}", file = .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The name of the policy.
        policy: Arc<str>,
        /// What is wrong.
        problem: String,
    },
    /// A policy gives away objects of a route without a look at them.
    #[error(
        "policy `{policy}`: {permit} permits requests of route {route} whatever resource.{name} is, which names an object \
         there; compare it, or write @unchecked(\"{name}\") before it if every one is meant"
    )]
    Given {
        /// The name in the path.
        name: String,
        /// Which of the policies.
        permit: String,
        /// The name of all of them.
        policy: Arc<str>,
        /// The label of the route.
        route: Arc<str>,
    },
    /// An object of a route is not looked at.
    #[error(
        "policy `{policy}`: nothing in it looks at resource.{name}, which names an object of route {route}; compare it, \
         or write bind = {{ {name} = \"sub\" }} or object = \"unchecked\" there"
    )]
    Unlooked {
        /// The name in the path.
        name: String,
        /// The name of the policy.
        policy: Arc<str>,
        /// The label of the route.
        route: Arc<str>,
    },
    /// What comes of the configuration is no schema.
    #[error("policy `{policy}`: no schema comes of the routes that name it: {problem}")]
    Schema {
        /// The name of the policy.
        policy: Arc<str>,
        /// What is wrong.
        problem: String,
    },
}

/// What a policy says of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It may pass.
    Allowed,
    /// It may not; the policy that forbids it, where it is not that none permits it.
    Denied(Option<Arc<str>>),
    /// A policy could not be evaluated.
    Failed,
    /// The credential was verified before the policies' claims were asked for.
    Unread,
}

/// A file of policies as it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyFile {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of it, as `sha256sum` prints it.
    pub sha256: String,
}

/// The files of each `[[policy]]`, by its name.
pub type PolicyFiles = BTreeMap<Arc<str>, Vec<PolicyFile>>;

/// All policies of a configuration, ready for use.
#[derive(Debug, Default)]
pub struct Policies(HashMap<Arc<str>, Compiled>);

/// The policies of one `[[policy]]`.
#[derive(Debug)]
struct Compiled {
    /// By the label of the route, then by method.
    actions: HashMap<Arc<str>, Vec<(Method, Action)>>,
    authorizer: Authorizer,
    claims: Vec<PolicyClaim>,
    files: Vec<PolicyFile>,
    principals: Principals,
    sources: Sources,
    types: Types,
}

#[derive(Clone, Debug)]
struct Action {
    entity: Entity,
    slices: Slices,
    uid: EntityUid,
}

impl Policies {
    /// Reads and checks the policies of a configuration. Blocks.
    ///
    /// # Errors
    /// One can't be used as it stands.
    pub fn load(config: &Config) -> Result<Self, PolicyError> {
        let compiled =
            |policy: &Policy| Ok((Arc::clone(&policy.name), Compiled::load(policy, &config.routes)?));
        config.policies.iter().map(compiled).collect::<Result<_, _>>().map(Self)
    }

    /// What they were read from.
    pub fn files(&self) -> PolicyFiles {
        self.0.iter().map(|(name, compiled)| (Arc::clone(name), compiled.files.clone())).collect()
    }

    /// What the policy of that name says of a request by `identity` for the object that is asked for.
    pub(super) fn decide(
        &self,
        name: &str,
        route: &Route,
        identity: &Arc<Identity>,
        asked: &Asked<'_>,
    ) -> Verdict {
        let Some(compiled) = self.0.get(name) else { return Verdict::Failed };
        let failed = || if compiled.is_known(identity) { Verdict::Failed } else { Verdict::Unread };
        compiled.decide(route, identity, asked).unwrap_or_else(failed)
    }
}

/// The schema that the policies of one `[[policy]]` are held against, as its authors may read it.
pub fn schema_text(policy: &Policy, routes: &[Route]) -> String {
    schema::text(policy, &naming(policy, routes))
}

fn naming<'r>(policy: &Policy, routes: &'r [Route]) -> Vec<&'r Route> {
    routes.iter().filter(|route| route.access.policy.as_ref() == Some(&policy.name)).collect()
}

impl Compiled {
    fn load(policy: &Policy, routes: &[Route]) -> Result<Self, PolicyError> {
        let routes = naming(policy, routes);
        let of_schema = |problem: &dyn std::fmt::Display| PolicyError::Schema {
            policy: Arc::clone(&policy.name),
            problem: problem.to_string(),
        };
        let (schema, _) = Schema::from_cedarschema_str(&schema::text(policy, &routes))
            .map_err(|error| of_schema(&error))?;
        let types = Types::new().map_err(|error| of_schema(&error))?;
        let entities = schema.action_entities().map_err(|error| of_schema(&error))?;
        let (set, files) = read(policy, &schema)?;
        let mut slicer = Slicer::new(&set, &types.principals);
        let mut actions: HashMap<Arc<str>, Vec<(Method, Action)>> = HashMap::new();
        for route in &routes {
            let of_route = actions.entry(Arc::clone(&route.label)).or_default();
            for method in schema::methods(route) {
                let uid = types.action(&schema::action(&method, route));
                let Some(entity) = entities.get(&uid).cloned() else { continue };
                let slices = slicer.slices(&slices::groups(&uid, &entities));
                let slices = slices.map_err(|error| of_schema(&error))?;
                of_route.push((method, Action { entity, slices, uid }));
            }
        }
        looks::check(policy, &set, &actions, &routes, &entities)?;
        let (authorizer, claims) = (Authorizer::new(), policy.claims.clone());
        let (principals, sources) = (Principals::default(), Sources::default());
        Ok(Self { actions, authorizer, claims, files, principals, sources, types })
    }

    /// `None`: something that can't be put into a policy's words.
    fn decide(&self, route: &Route, identity: &Arc<Identity>, asked: &Asked<'_>) -> Option<Verdict> {
        let known = self.actions.get(route.label())?.iter().find(|(method, _)| method == asked.method);
        // A route of all methods has policies for the usual ones.
        let Some((_, action)) = known else { return Some(Verdict::Denied(None)) };
        let known = self.principals.of(identity, |identity| self.types.principal(identity, &self.claims))?;
        let (_, principal) = &*known;
        let (resource, object) = self.types.resource(asked)?;
        let context = values::context(principal, self.sources.of(asked.source), asked.now)?;
        let request = Request::new(principal.uid.clone(), action.uid.clone(), object, context, None).ok()?;
        let entities = [principal.entity.clone(), resource, action.entity.clone()];
        let entities = Entities::from_entities(entities, None).ok()?;
        let slice = &action.slices[kind(identity)];
        Some(self.verdict(&self.authorizer.is_authorized(&request, slice, &entities)))
    }

    /// Whether it is known what the credential claims of what the policies are about.
    fn is_known(&self, identity: &Identity) -> bool {
        self.claims.iter().all(|claim| identity.knows_claim(&claim.claim))
    }

    fn verdict(&self, response: &Response) -> Verdict {
        let diagnostics = response.diagnostics();
        if diagnostics.errors().next().is_some() {
            return Verdict::Failed;
        }
        match response.decision() {
            Decision::Allow => Verdict::Allowed,
            Decision::Deny => {
                Verdict::Denied(diagnostics.reason().next().map(|id| AsRef::<str>::as_ref(id).into()))
            }
        }
    }
}

/// The policies of all files, each under its `@id`, or the name of its file and its place there; and the files.
fn read(policy: &Policy, schema: &Schema) -> Result<(PolicySet, Vec<PolicyFile>), PolicyError> {
    let (mut all, mut files) = (PolicySet::new(), Vec::with_capacity(policy.files.len()));
    for file in &policy.files {
        let of_file = |problem: String| PolicyError::File {
            file: file.clone(),
            policy: Arc::clone(&policy.name),
            problem,
        };
        let text = text(file).map_err(of_file)?;
        files.push(PolicyFile { path: file.clone(), sha256: fingerprint(&text) });
        let set = PolicySet::from_str(&text).map_err(|error| of_file(problem(&error, &text)))?;
        if set.templates().next().is_some() {
            return Err(of_file(
                "it holds a template; write policies without ?principal and ?resource".to_owned(),
            ));
        }
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        // They are numbered in the order of the file.
        let mut policies: Vec<_> = set.policies().collect();
        policies.sort_by_key(|policy| place(policy.id()));
        for (place, policy) in policies.into_iter().enumerate() {
            let id = policy.annotation("id").map_or_else(|| format!("{stem}.{}", place + 1), str::to_owned);
            all.add(policy.new_id(PolicyId::new(&id))).map_err(|_| {
                of_file(format!("two policies are called {id}; give one of them another @id"))
            })?;
        }
        let verdict = Validator::new(schema.clone()).validate(&all, ValidationMode::Strict);
        let problems: Vec<_> = verdict.validation_errors().map(|error| problem(error, &text)).collect();
        if !problems.is_empty() {
            return Err(of_file(problems.join("; ")));
        }
    }
    Ok((all, files))
}

fn place(id: &PolicyId) -> u32 {
    AsRef::<str>::as_ref(id).trim_start_matches("policy").parse().unwrap_or(u32::MAX)
}

fn text(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(format!("can't be read: {error}")),
        Ok(_) if text.len() as u64 > MAX_FILE_BYTES => {
            Err(format!("longer than {MAX_FILE_BYTES} bytes; split it"))
        }
        Ok(_) => Ok(text),
    }
}

/// What is wrong, with the line and how to mend it, in one line.
fn problem(error: &impl Diagnostic, text: &str) -> String {
    let at = error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    let line = at.and_then(|at| text.get(..at)).map(|before| 1 + before.matches('\n').count());
    let (line, help) =
        (line.map(|line| format!("line {line}: ")), error.help().map(|help| format!(" ({help})")));
    let problem = format!("{}{error}{}", line.unwrap_or_default(), help.unwrap_or_default());
    problem.replace('\n', " ")
}
