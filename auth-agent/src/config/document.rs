//! The TOML document as the sections are read from it: every field keeps its name and its line, and a
//! problem is noted where it is found, so that reading goes on to the next one.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors};

/// No configuration is larger; `/dev/zero` is.
const MAX_BYTES: u64 = 1 << 20;

/// Names further from every known one than this are no slip of the finger.
const MAX_SLIPS: usize = 2;

/// What a value gives, or what is wrong with it.
pub(super) type Checked<T> = Result<T, Wrong>;

/// What is wrong with a value, and the cure.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Wrong {
    cure: String,
    what: String,
}

/// For a value that is refused.
pub(super) fn wrong<T>(what: impl Into<String>, cure: impl Into<String>) -> Checked<T> {
    Err(Wrong { cure: cure.into(), what: what.into() })
}

/// Reads a file as UTF-8.
pub(super) fn read(path: &Path) -> Result<String, ConfigErrors> {
    let refuse = |line, what: String, cure: &str| {
        let (file, field, cure) = (path.to_owned(), String::new(), cure.to_owned());
        ConfigErrors::new(vec![ConfigError { cure, field, file, line, what }])
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(|error| {
        refuse(
            None,
            format!("can't be read: {error}"),
            "`auth-agent config example` prints one to start from",
        )
    })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refuse(None, format!("longer than {MAX_BYTES} bytes"), "name a configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        refuse(Some(line), "not UTF-8 text".to_owned(), "save the file as UTF-8")
    })
}

/// Parses a document and reads its sections. What `sections` makes of wrong fields doesn't matter: a noted
/// problem is the answer.
pub(super) fn parse<T>(
    text: &str,
    file: &Path,
    sections: impl FnOnce(Section<'_>) -> T,
) -> Result<T, ConfigErrors> {
    let document = Document {
        file,
        line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
        problems: RefCell::default(),
    };
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut last_line = 0;
    for error in errors {
        // Within a line, one slip makes the parser stumble several times.
        let at = error.span().map_or(0, |span| span.start);
        if document.line(at) != last_line {
            last_line = document.line(at);
            let place = Place { field: String::new(), offset: at };
            document.note(
                &place,
                Wrong {
                    cure: "see https://toml.io for the syntax".to_owned(),
                    what: format!("not TOML: {}", error.message()),
                },
            );
        }
    }
    // What the parser made of a broken document is not what its author meant.
    let well_formed = document.problems.borrow().is_empty();
    let value = well_formed.then(|| {
        sections(Section {
            document: &document,
            known: Vec::new(),
            place: Place { field: String::new(), offset: 0 },
            table: Some(root.get_ref()),
        })
    });
    let problems = document.problems.into_inner();
    value.filter(|_| problems.is_empty()).ok_or_else(|| ConfigErrors::new(problems))
}

struct Document<'d> {
    file: &'d Path,
    line_ends: Vec<usize>,
    problems: RefCell<Vec<ConfigError>>,
}

impl Document<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self.line_ends.partition_point(|end| *end < offset)
    }

    fn note(&self, place: &Place, wrong: Wrong) {
        self.problems.borrow_mut().push(ConfigError {
            cure: wrong.cure,
            field: place.field.clone(),
            file: self.file.to_owned(),
            line: Some(self.line(place.offset)),
            what: wrong.what,
        });
    }
}

/// Name and position of a field.
#[derive(Clone, Debug)]
struct Place {
    field: String,
    offset: usize,
}

/// A table, or the place where one could stand. Each field is asked for by name; [`Section::finish`] then
/// knows which ones nobody asked for.
pub(super) struct Section<'d> {
    document: &'d Document<'d>,
    known: Vec<&'static str>,
    place: Place,
    table: Option<&'d DeTable<'d>>,
}

impl<'d> Section<'d> {
    /// The folder of the file: where relative paths start.
    pub(super) fn folder(&self) -> &'d Path {
        self.document.file.parent().unwrap_or(Path::new(""))
    }

    /// Whether it stands in the file.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The line of a field, or of the section where the field is absent.
    pub(super) fn line(&self, key: &str) -> usize {
        self.document.line(self.place_of(key).offset)
    }

    /// Whether there is such a field, right or wrong.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// Notes a problem of a field.
    pub(super) fn note(&self, key: &str, problem: Wrong) {
        self.document.note(&self.place_of(key), problem);
    }

    /// Notes the problem, if the check of a field found one.
    pub(super) fn check(&self, key: &str, checked: Checked<()>) {
        if let Err(problem) = checked {
            self.note(key, problem);
        }
    }

    /// The field's value, where there is a right one.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Checked<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        parse(value.get_ref()).map_err(|problem| self.note(key, problem)).ok()
    }

    /// The field's value, or the default.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Checked<T>,
        default: T,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// The field's value; that there is none is a problem, whose cure is to `write`.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Checked<T>,
        write: &str,
    ) -> Option<T> {
        self.require(key, write);
        self.optional(key, parse)
    }

    /// The elements of an array, where there is one. Wrong ones are noted, and so are equal ones.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Checked<T>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(elements) = self.value(key)?.get_ref() else {
            self.note(
                key,
                Wrong { cure: "put it in brackets: [ ]".to_owned(), what: "not a list".to_owned() },
            );
            return None;
        };
        let mut list = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let place = self.element(key, index, element);
            match parse(element.get_ref()) {
                Ok(value) if list.contains(&value) => {
                    let (what, cure) = ("listed twice".to_owned(), "take one of them out".to_owned());
                    self.document.note(&place, Wrong { cure, what });
                }
                Ok(value) => list.push(value),
                Err(problem) => self.document.note(&place, problem),
            }
        }
        Some(list)
    }

    /// The elements of an array; that it is empty is a problem, whose cure is to `write`.
    pub(super) fn filled_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Checked<T>,
        write: &str,
    ) -> Option<Vec<T>> {
        self.refuse_empty(key, write);
        self.list(key, parse)
    }

    /// The elements of an array; that there is none is a problem, whose cure is to `write`.
    pub(super) fn required_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Checked<T>,
        write: &str,
    ) -> Option<Vec<T>> {
        self.require(key, write);
        self.filled_list(key, parse, write)
    }

    /// The fields of a table whose names are the operator's own. Wrong ones are noted.
    pub(super) fn entries<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str, &DeValue<'_>) -> Checked<T>,
    ) -> Vec<T> {
        let table = self.section(key);
        let fields = table.table.into_iter().flatten();
        let entry = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let place = Place { field: table.name(&shown(name.get_ref())), offset: name.span().start };
            parse(name.get_ref(), value.get_ref()).map_err(|problem| self.document.note(&place, problem)).ok()
        };
        fields.filter_map(entry).collect()
    }

    /// The table `[key]`; an absent one has no fields.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'d> {
        let value = self.value(key);
        let table = value.and_then(|value| value.get_ref().as_table());
        let place = self.place_of(key);
        if value.is_some() && table.is_none() {
            let what = "not a table".to_owned();
            self.document.note(&place, Wrong { cure: format!("write [{}]", place.field), what });
        }
        Section { document: self.document, known: Vec::new(), place, table }
    }

    /// The tables `[[key]]`.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'d>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let not_tables = || {
            let what = "not a list of tables".to_owned();
            self.note(key, Wrong { cure: format!("write [[{}]]", self.place_of(key).field), what });
        };
        let DeValue::Array(elements) = value.get_ref() else {
            not_tables();
            return Vec::new();
        };
        if elements.iter().any(|element| !element.get_ref().is_table()) {
            not_tables();
            return Vec::new();
        }
        let section = |(index, element): (usize, &'d Spanned<DeValue<'d>>)| Section {
            document: self.document,
            known: Vec::new(),
            place: self.element(key, index, element),
            table: element.get_ref().as_table(),
        };
        elements.iter().enumerate().map(section).collect()
    }

    /// The tables `[[key]]`; that there is none is a problem, whose cure is to `write`.
    pub(super) fn required_sections(&mut self, key: &'static str, write: &str) -> Vec<Section<'d>> {
        self.require(key, write);
        self.refuse_empty(key, write);
        self.sections(key)
    }

    /// Notes every field that was not asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for key in table.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let place = Place { field: self.name(&shown(key.get_ref())), offset: key.span().start };
            let what = "unknown field".to_owned();
            self.document.note(&place, Wrong { cure: self.alternative(key.get_ref()), what });
        }
    }

    fn alternative(&self, key: &str) -> String {
        let slips = |known: &&&str| strsim::damerau_levenshtein(key, known);
        // The distance takes time in proportion to both lengths.
        let comparable = self.known.iter().filter(|known| key.len() <= known.len() + MAX_SLIPS);
        match comparable.min_by_key(slips).filter(|known| slips(known) <= MAX_SLIPS) {
            Some(known) => format!("did you mean {known}?"),
            None => format!("the fields here are {}", self.known.join(", ")),
        }
    }

    fn require(&mut self, key: &'static str, write: &str) {
        if self.value(key).is_none() {
            let place = Place { field: self.name(key), ..self.place.clone() };
            self.document.note(&place, Wrong { cure: format!("write {write}"), what: "missing".to_owned() });
        }
    }

    /// Whether a field is a list or a table with nothing in it.
    pub(super) fn is_empty(&mut self, key: &'static str) -> bool {
        match self.value(key).map(Spanned::get_ref) {
            Some(DeValue::Array(elements)) => elements.is_empty(),
            Some(DeValue::Table(fields)) => fields.is_empty(),
            _ => false,
        }
    }

    /// Notes a problem of a list that is there and empty.
    pub(super) fn refuse_empty(&mut self, key: &'static str, write: &str) {
        let array = self.value(key).and_then(|value| value.get_ref().as_array());
        if array.is_some_and(|elements| elements.is_empty()) {
            self.note(key, Wrong { cure: format!("write {write}"), what: "empty".to_owned() });
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.get(key)
    }

    fn place_of(&self, key: &str) -> Place {
        let entry = self.table.and_then(|table| table.get_key_value(key));
        Place { field: self.name(key), offset: entry.map_or(self.place.offset, |(key, _)| key.span().start) }
    }

    fn element(&self, key: &str, index: usize, element: &Spanned<DeValue<'_>>) -> Place {
        // Counted from 1, as the reader of the file does.
        Place { field: format!("{}[{}]", self.name(key), index + 1), offset: element.span().start }
    }

    fn name(&self, key: &str) -> String {
        if self.place.field.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place.field) }
    }
}

/// Text from the file, safe to print: escaped, and cut where it is long.
pub(super) fn shown(text: &str) -> String {
    const CHARS: usize = 60;
    let escaped: String = text.chars().take(CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS).is_some() { format!("{escaped}...") } else { escaped }
}
