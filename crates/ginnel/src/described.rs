//! Types that say how they lie in memory, so that two programs can tell whether they mean the same: what a [typed link](crate::typed) is labelled
//! with.

use std::fmt::Write;

/// A type that says how it lies in memory. [`describe!`](crate::describe) implements it for a struct.
pub trait Described {
    /// Writes the description: names, types and offsets of the fields, so that two types with the same description are the same bytes.
    fn describe(text: &mut String);

    /// The description as a text.
    fn description() -> String {
        let mut text = String::new();
        Self::describe(&mut text);
        text
    }
}

macro_rules! plain {
    ($($type:ident)*) => {
        $(impl Described for $type {
            fn describe(text: &mut String) {
                text.push_str(stringify!($type));
            }
        })*
    };
}

plain!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);

impl<T: Described, const N: usize> Described for [T; N] {
    fn describe(text: &mut String) {
        text.push('[');
        T::describe(text);
        let _ = write!(text, "; {N}]");
    }
}

/// Implements [`Described`] for a struct: all of its fields, with their types.
///
/// A field that is left out, or has another type, does not compile.
///
/// # Examples
/// ```
/// use ginnel::Described;
///
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
/// ginnel::describe!(Point { x: f64, y: f64 });
///
/// assert_eq!(Point::description(), "Point { x: f64 at 0, y: f64 at 8 } of 16 bytes");
/// ```
#[macro_export]
macro_rules! describe {
    ($name:ident { $($field:ident : $type:ty),* $(,)? }) => {
        impl $crate::Described for $name {
            fn describe(text: &mut ::std::string::String) {
                #[allow(dead_code, reason = "compiled, so that no field can be left out or have another type")]
                fn has_these_fields(value: $name) {
                    let $name { $($field),* } = value;
                    $(let _: $type = $field;)*
                }
                text.push_str(concat!(stringify!($name), " {"));
                let mut separator = " ";
                $(
                    text.push_str(separator);
                    text.push_str(concat!(stringify!($field), ": "));
                    <$type as $crate::Described>::describe(text);
                    text.push_str(&::std::format!(" at {}", ::std::mem::offset_of!($name, $field)));
                    separator = ", ";
                )*
                let _ = separator;
                text.push_str(&::std::format!(" }} of {} bytes", ::std::mem::size_of::<$name>()));
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::Described;

    #[repr(C)]
    struct Inner {
        a: u8,
        b: [u16; 3],
    }
    crate::describe!(Inner { a: u8, b: [u16; 3] });

    #[repr(C)]
    struct Outer {
        first: Inner,
        second: i64,
    }
    crate::describe!(Outer { first: Inner, second: i64 });

    #[test]
    fn fields_within_fields_are_described_with_their_places() {
        let inner = "Inner { a: u8 at 0, b: [u16; 3] at 2 } of 8 bytes";
        assert_eq!(Inner::description(), inner);
        assert_eq!(Outer::description(), format!("Outer {{ first: {inner} at 0, second: i64 at 8 }} of 16 bytes"));
    }
}
