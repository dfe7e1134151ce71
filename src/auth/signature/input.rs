//! Reads `Signature-Input` and `Signature`, which are dictionaries (RFC 9421, section 4; RFC 8941).
//!
//! A structured field lets a later member replace an earlier one of the same name; here a name that stands twice is
//! refused, as two readers might disagree about it.

use std::borrow::Cow;

use sfv::visitor::{DictionaryVisitor, EntryVisitor, InnerListVisitor, ItemVisitor, Never, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef, Parser, StringRef};

use super::Refusal;
use crate::auth::digest::Bytes;

/// Signatures of one request.
const LABELS_MAX: usize = 8;
/// Components that one covers.
const COMPONENTS_MAX: usize = 64;
/// Parameters of a signature or a component.
const PARAMETERS_MAX: usize = 16;

/// Parameters, in the order written.
pub(super) type Parameters<'a> = Vec<(&'a KeyRef, BareItemFromInput<'a>)>;

/// What one signature covers, and its parameters.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) label: &'a str,
    pub(super) components: Vec<Component<'a>>,
    pub(super) parameters: Parameters<'a>,
}

/// One covered component.
#[derive(Debug)]
pub(super) struct Component<'a> {
    pub(super) name: Cow<'a, StringRef>,
    pub(super) parameters: Parameters<'a>,
}

impl<'a> Input<'a> {
    /// All signatures of a `Signature-Input`, in the order written.
    pub(super) fn all(text: &'a str) -> Result<Vec<Input<'a>>, Refusal> {
        let mut twice = false;
        let inputs = Parser::new(text).parse_dictionary_with_visitor(Inputs { found: vec![], twice: &mut twice });
        let inputs = inputs.map_err(|_| if twice { Refusal::Twice } else { Refusal::Malformed })?;
        if inputs.iter().any(Input::repeats) { Err(Refusal::Twice) } else { Ok(inputs) }
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

    /// Whether it covers a component as it is.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.components.iter().any(|covered| covered.name.as_str() == name && covered.parameters.is_empty())
    }

    fn parameter(&self, name: &str) -> Option<&BareItemFromInput<'a>> {
        self.parameters.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
    }

    /// Whether a component stands twice, or a parameter does. Parameters of a component are compared as written.
    fn repeats(&self) -> bool {
        let same = |a: &Component<'_>, b: &Component<'_>| {
            a.name == b.name && format!("{:?}", a.parameters) == format!("{:?}", b.parameters)
        };
        let components = &self.components;
        repeats(&self.parameters)
            || components.iter().any(|component| repeats(&component.parameters))
            || components.iter().enumerate().any(|(at, one)| components[..at].iter().any(|other| same(one, other)))
    }
}

fn repeats(parameters: &Parameters<'_>) -> bool {
    parameters.iter().enumerate().any(|(at, (key, _))| parameters[..at].iter().any(|(other, _)| other == key))
}

/// The signature of a label, out of a `Signature`; `None` where it has none.
pub(super) fn tag_of(text: &str, label: &str) -> Result<Option<Vec<u8>>, Refusal> {
    let mut twice = false;
    let tags = Tags { label, seen: vec![], tag: None, twice: &mut twice };
    let tag = Parser::new(text).parse_dictionary_with_visitor(tags);
    tag.map_err(|_| if twice { Refusal::Twice } else { Refusal::Malformed })
}

/// Ends the reading of a field.
#[derive(Debug, thiserror::Error)]
#[error("not a signature")]
pub(super) struct Wrong;

struct Tags<'t, 'a> {
    label: &'t str,
    seen: Vec<&'a str>,
    tag: Option<Vec<u8>>,
    twice: &'t mut bool,
}

impl<'de> DictionaryVisitor<'de> for Tags<'_, 'de> {
    type Out = Option<Vec<u8>>;
    type Error = Wrong;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Wrong> {
        if self.seen.contains(&key.as_str()) {
            *self.twice = true;
            return Err(Wrong);
        }
        if self.seen.len() == LABELS_MAX {
            return Err(Wrong);
        }
        self.seen.push(key.as_str());
        Ok((key.as_str() == self.label).then_some(Bytes(&mut self.tag)))
    }

    fn finish(self) -> Result<Option<Vec<u8>>, Wrong> {
        Ok(self.tag)
    }
}

struct Inputs<'t, 'a> {
    found: Vec<Input<'a>>,
    twice: &'t mut bool,
}

impl<'de> DictionaryVisitor<'de> for Inputs<'_, 'de> {
    type Out = Vec<Input<'de>>;
    type Error = Wrong;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Wrong> {
        if self.found.iter().any(|input| input.label == key.as_str()) {
            *self.twice = true;
            return Err(Wrong);
        }
        if self.found.len() == LABELS_MAX {
            return Err(Wrong);
        }
        self.found.push(Input { label: key.as_str(), components: vec![], parameters: vec![] });
        self.found.last_mut().map(One).ok_or(Wrong)
    }

    fn finish(self) -> Result<Vec<Input<'de>>, Wrong> {
        Ok(self.found)
    }
}

/// One signature.
struct One<'i, 'a>(&'i mut Input<'a>);

impl<'de> EntryVisitor<'de> for One<'_, 'de> {
    type Error = Wrong;

    fn item(self) -> Result<impl ItemVisitor<'de>, Wrong> {
        Err::<Never, _>(Wrong)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Wrong> {
        Ok(self)
    }
}

impl<'de> InnerListVisitor<'de> for One<'_, 'de> {
    type Error = Wrong;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Wrong> {
        if self.0.components.len() == COMPONENTS_MAX { Err(Wrong) } else { Ok(Covered(&mut self.0.components)) }
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, Wrong> {
        Ok(Named(&mut self.0.parameters))
    }
}

/// Takes a component.
struct Covered<'i, 'a>(&'i mut Vec<Component<'a>>);

impl<'de> ItemVisitor<'de> for Covered<'_, 'de> {
    type Out = ();
    type Error = Wrong;

    fn bare_item(self, item: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = ()>, Wrong> {
        let BareItemFromInput::String(name) = item else { return Err(Wrong) };
        self.0.push(Component { name, parameters: vec![] });
        self.0.last_mut().map(|component| Named(&mut component.parameters)).ok_or(Wrong)
    }
}

/// Takes parameters.
struct Named<'i, 'a>(&'i mut Parameters<'a>);

impl<'de> ParameterVisitor<'de> for Named<'_, 'de> {
    type Out = ();
    type Error = Wrong;

    fn parameter(&mut self, key: &'de KeyRef, value: BareItemFromInput<'de>) -> Result<(), Wrong> {
        if self.0.len() == PARAMETERS_MAX {
            return Err(Wrong);
        }
        self.0.push((key, value));
        Ok(())
    }

    fn finish(self) -> Result<(), Wrong> {
        Ok(())
    }
}
