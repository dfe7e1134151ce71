//! The parser of `Signature-Input` and `Signature`, which are dictionaries (RFC 9421, section 4; RFC 8941).
//!
//! In a structured field a later member replaces an earlier one of the same name; here a name that occurs twice is
//! refused, as two readers might disagree about it. Labels are compared while they are read; components and parameters
//! only for the signature that counts.
//!
//! Any client can make us read these fields, so the bounds are narrow. Of a component's parameters only the `name` of a
//! `@query-param` is kept: no other one is known here.

use std::borrow::Cow;

use sfv::visitor::{DictionaryVisitor, EntryVisitor, InnerListVisitor, ItemVisitor, Never, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef, Parser, StringRef};

use super::SignatureError;
use crate::digest::Bytes;

/// The most signatures of one request.
pub(super) const LABELS_MAX: usize = 4;
/// The most components of a signature.
pub(super) const COMPONENTS_MAX: usize = 32;
/// The most parameters of a signature.
const PARAMETERS_MAX: usize = 16;

/// The component that has a parameter.
pub(super) const QUERY_PARAM: &str = "@query-param";

/// Parameters, in the order written.
pub(super) type Parameters<'a> = Vec<(&'a KeyRef, BareItemFromInput<'a>)>;

/// The components that a signature covers, and its parameters.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) label: &'a str,
    pub(super) components: Vec<Component<'a>>,
    pub(super) parameters: Parameters<'a>,
}

/// A covered component.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Component<'a> {
    /// A field, or a component derived from the request, by its name.
    Plain(Cow<'a, StringRef>),
    /// `@query-param`, by the parameter's name.
    QueryParam(Cow<'a, StringRef>),
    /// A component with parameters that are not known here.
    Unknown,
}

impl<'a> Input<'a> {
    /// All signatures of a `Signature-Input`, in the order written.
    pub(super) fn all(text: &'a str) -> Result<Vec<Input<'a>>, SignatureError> {
        let mut why = SignatureError::Malformed;
        let inputs = Parser::new(text).parse_dictionary_with_visitor(Inputs { found: vec![], why: &mut why });
        inputs.map_err(|_| why)
    }

    /// Whether a parameter is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parameter(name).is_some()
    }

    /// A parameter that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.parameter(name)? {
            BareItemFromInput::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// A parameter that is a time, in seconds since 1970.
    pub(super) fn seconds(&self, name: &str) -> Option<u64> {
        match self.parameter(name)? {
            BareItemFromInput::Integer(seconds) => u64::try_from(i64::from(*seconds)).ok(),
            _ => None,
        }
    }

    /// Whether the signature covers a component without parameters.
    pub(super) fn covers(&self, name: &str) -> bool {
        let is = |covered: &Component<'_>| matches!(covered, Component::Plain(plain) if plain.as_str() == name);
        self.components.iter().any(is)
    }

    fn parameter(&self, name: &str) -> Option<&BareItemFromInput<'a>> {
        self.parameters.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
    }

    /// Whether a component or a parameter occurs twice. Unknown components are not compared: one is
    /// enough to refuse the signature.
    pub(super) fn repeats(&self) -> bool {
        twice(&self.parameters, |(one, _), (other, _)| one == other)
            || twice(&self.components, |one, other| one == other && *one != Component::Unknown)
    }
}

/// Whether two elements are the same. It compares each pair, so it is for short lists.
pub(super) fn twice<T>(all: &[T], mut same: impl FnMut(&T, &T) -> bool) -> bool {
    all.iter().enumerate().any(|(at, one)| all[..at].iter().any(|other| same(one, other)))
}

/// The signature with a label, from a `Signature`; `None` where that label is missing.
pub(super) fn tag_of(text: &str, label: &str) -> Result<Option<Vec<u8>>, SignatureError> {
    let mut why = SignatureError::Malformed;
    let tags = Tags { label, seen: vec![], tag: None, why: &mut why };
    let tag = Parser::new(text).parse_dictionary_with_visitor(tags);
    tag.map_err(|_| why)
}

/// Ends the parsing of a field; sfv keeps no error of its visitor, so the reason is written to `why`.
#[derive(Debug, thiserror::Error)]
#[error("not a signature")]
pub(super) struct FieldError;

impl FieldError {
    fn because(of: SignatureError, why: &mut SignatureError) -> FieldError {
        *why = of;
        FieldError
    }
}

struct Tags<'t, 'a> {
    label: &'t str,
    seen: Vec<&'a str>,
    tag: Option<Vec<u8>>,
    why: &'t mut SignatureError,
}

impl<'de> DictionaryVisitor<'de> for Tags<'_, 'de> {
    type Out = Option<Vec<u8>>;
    type Error = FieldError;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, FieldError> {
        if self.seen.contains(&key.as_str()) {
            return Err(FieldError::because(SignatureError::Twice, self.why));
        }
        if self.seen.len() == LABELS_MAX {
            return Err(FieldError::because(SignatureError::TooMany, self.why));
        }
        self.seen.push(key.as_str());
        Ok((key.as_str() == self.label).then_some(Bytes(&mut self.tag)))
    }

    fn finish(self) -> Result<Option<Vec<u8>>, FieldError> {
        Ok(self.tag)
    }
}

struct Inputs<'t, 'a> {
    found: Vec<Input<'a>>,
    why: &'t mut SignatureError,
}

impl<'de> DictionaryVisitor<'de> for Inputs<'_, 'de> {
    type Out = Vec<Input<'de>>;
    type Error = FieldError;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, FieldError> {
        if self.found.iter().any(|input| input.label == key.as_str()) {
            return Err(FieldError::because(SignatureError::Twice, self.why));
        }
        if self.found.len() == LABELS_MAX {
            return Err(FieldError::because(SignatureError::TooMany, self.why));
        }
        self.found.push(Input { label: key.as_str(), components: vec![], parameters: vec![] });
        let input = self.found.last_mut().ok_or(FieldError)?;
        Ok(One { input, why: self.why })
    }

    fn finish(self) -> Result<Vec<Input<'de>>, FieldError> {
        Ok(self.found)
    }
}

/// The visitor of one signature.
struct One<'i, 'a> {
    input: &'i mut Input<'a>,
    why: &'i mut SignatureError,
}

impl<'de> EntryVisitor<'de> for One<'_, 'de> {
    type Error = FieldError;

    fn item(self) -> Result<impl ItemVisitor<'de>, FieldError> {
        Err::<Never, _>(FieldError)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, FieldError> {
        Ok(self)
    }
}

impl<'de> InnerListVisitor<'de> for One<'_, 'de> {
    type Error = FieldError;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, FieldError> {
        if self.input.components.len() == COMPONENTS_MAX {
            return Err(FieldError::because(SignatureError::TooMany, self.why));
        }
        Ok(Covered(&mut self.input.components))
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, FieldError> {
        Ok(Said { parameters: &mut self.input.parameters, why: self.why })
    }
}

/// The visitor of a component.
struct Covered<'i, 'a>(&'i mut Vec<Component<'a>>);

impl<'de> ItemVisitor<'de> for Covered<'_, 'de> {
    type Out = ();
    type Error = FieldError;

    fn bare_item(self, item: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = ()>, FieldError> {
        let BareItemFromInput::String(name) = item else { return Err(FieldError) };
        self.0.push(Component::Plain(name));
        self.0.last_mut().map(Narrowed).ok_or(FieldError)
    }
}

/// The visitor of a component's parameters: others may sign with further ones, but these are not known here.
struct Narrowed<'i, 'a>(&'i mut Component<'a>);

impl<'de> ParameterVisitor<'de> for Narrowed<'_, 'de> {
    type Out = ();
    type Error = FieldError;

    fn parameter(&mut self, key: &'de KeyRef, value: BareItemFromInput<'de>) -> Result<(), FieldError> {
        let is_query = matches!(&*self.0, Component::Plain(name) if name.as_str() == QUERY_PARAM);
        *self.0 = match value {
            BareItemFromInput::String(name) if is_query && key.as_str() == "name" => Component::QueryParam(name),
            _ => Component::Unknown,
        };
        Ok(())
    }

    fn finish(self) -> Result<(), FieldError> {
        Ok(())
    }
}

/// The visitor of a signature's parameters.
struct Said<'i, 'a> {
    parameters: &'i mut Parameters<'a>,
    why: &'i mut SignatureError,
}

impl<'de> ParameterVisitor<'de> for Said<'_, 'de> {
    type Out = ();
    type Error = FieldError;

    fn parameter(&mut self, key: &'de KeyRef, value: BareItemFromInput<'de>) -> Result<(), FieldError> {
        if self.parameters.len() == PARAMETERS_MAX {
            return Err(FieldError::because(SignatureError::TooMany, self.why));
        }
        self.parameters.push((key, value));
        Ok(())
    }

    fn finish(self) -> Result<(), FieldError> {
        Ok(())
    }
}
