//! The number of fields in a header block, counted in its bytes without decoding them (RFC 7541, section 6).

/// Counts the fields of one block, which may come in parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields {
    at: At,
    counted: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum At {
    /// A representation begins.
    #[default]
    Start,
    /// An integer goes on; then comes a string, or nothing.
    Integer { then: Option<Text> },
    /// A string's length begins.
    Length(Text),
    /// The length goes on: the part known, and the place of the next seven bits.
    LengthOn(Text, u32, u32),
    /// Inside a string, with this many bytes left.
    Inside(Text, u32),
}

#[derive(Clone, Copy, Debug)]
enum Text {
    Name,
    Value,
}

impl Fields {
    /// A block begins.
    pub fn begin(&mut self) {
        *self = Fields::default();
    }

    /// Fields so far; a field counts where it begins.
    pub fn counted(&self) -> usize {
        self.counted
    }

    /// Counts in the next bytes.
    pub fn count(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            if let At::Inside(text, left) = self.at {
                let part = bytes.len().min(left as usize);
                bytes = &bytes[part..];
                self.inside(text, left - part as u32);
                continue;
            }
            bytes = rest;
            match self.at {
                At::Start => self.start(*byte),
                At::Integer { then } if byte & 0x80 == 0 => self.at = then.map_or(At::Start, At::Length),
                At::Integer { .. } | At::Inside(..) => {}
                At::Length(text) if byte & 0x7f == 0x7f => self.at = At::LengthOn(text, 0x7f, 0),
                At::Length(text) => self.inside(text, u32::from(byte & 0x7f)),
                At::LengthOn(text, known, place) => {
                    // The codec refuses a value that does not fit; here it only must not panic.
                    let known = known.saturating_add(u32::from(byte & 0x7f).checked_shl(place).unwrap_or(u32::MAX));
                    match byte & 0x80 {
                        0 => self.inside(text, known),
                        _ => self.at = At::LengthOn(text, known, place.saturating_add(7)),
                    }
                }
            }
        }
    }

    fn start(&mut self, byte: u8) {
        let (mask, then) = match byte {
            0x80.. => (0x7f, None),
            0x40.. => (0x3f, Some(Text::Value)),
            0x20.. => (0x1f, None),
            _ => (0x0f, Some(Text::Value)),
        };
        let index = byte & mask;
        // A change of the table's size is not a field.
        self.counted += usize::from(!(0x20..0x40).contains(&byte));
        self.at = match then {
            _ if index == mask => At::Integer { then },
            Some(Text::Value) if index == 0 => At::Length(Text::Name),
            then => then.map_or(At::Start, At::Length),
        };
    }

    fn inside(&mut self, text: Text, left: u32) {
        self.at = match (left, text) {
            (0, Text::Name) => At::Length(Text::Value),
            (0, Text::Value) => At::Start,
            _ => At::Inside(text, left),
        };
    }
}
