//! Values that never leave the process need not be encoded: a run inside one process keeps them in
//! memory.
//!
//! A function takes its items by value, and a message may be delivered again, so a kept value must
//! be copyable. Users' types need not be `Clone`: only well-known types are kept, and all others
//! are encoded. A float that JSON cannot write is not kept either, so that a run fails here as it
//! would over a service.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// Calls a macro with the types that are kept, also in lists. Keeping and copying share this list,
/// so that every kept value can be copied.
macro_rules! kept {
    ($with:ident!) => {
        $with!(
            (),
            bool,
            char,
            i8,
            i16,
            i32,
            i64,
            i128,
            isize,
            u8,
            u16,
            u32,
            u64,
            u128,
            usize,
            String,
            Vec<u8>,
            Vec<i64>,
            Vec<u64>,
            Vec<String>
        )
    };
}

/// Like `kept`, for the types that are kept only if JSON can write the value.
macro_rules! kept_floats {
    ($with:ident!) => {
        $with!(f32, f64, Vec<f64>)
    };
}

/// Keeps a value in memory; returns it if its type is not one of those that are kept.
pub(crate) fn keep<T: Send + 'static>(value: T) -> Result<Arc<dyn Any + Send + Sync>, T> {
    let mut value = Some(value);
    macro_rules! keep_one {
        ($kind:ty) => {
            if let Some(kept) = (&mut value as &mut dyn Any).downcast_mut::<Option<$kind>>()
                && let Some(kept) = kept.take()
            {
                return Ok(Arc::new(kept));
            }
        };
    }
    macro_rules! keep {
        ($($kind:ty),*) => {$(
            keep_one!($kind);
            keep_one!(Vec<$kind>);
        )*};
    }
    macro_rules! keep_finite {
        ($($kind:ty, $is_finite:expr);*) => {$(
            if let Some(kept) = (&mut value as &mut dyn Any).downcast_mut::<Option<$kind>>()
                && let Some(float) = kept.take()
            {
                let is_finite: fn(&$kind) -> bool = $is_finite;
                match is_finite(&float) {
                    true => return Ok(Arc::new(float)),
                    false => *kept = Some(float),
                }
            }
        )*};
    }
    kept!(keep!);
    keep_finite!(
        f32, |float| float.is_finite();
        f64, |float| float.is_finite();
        Vec<f32>, |floats| floats.iter().all(|float| float.is_finite());
        Vec<f64>, |floats| floats.iter().all(|float| float.is_finite());
        Vec<Vec<f64>>, |lists| lists.iter().flatten().all(|float| float.is_finite())
    );
    match value {
        Some(value) => Err(value),
        // Every branch that takes the value returns it.
        None => unreachable!("a kept value is returned"),
    }
}

/// Whether [`keep`] would keep a value.
pub(crate) fn is_kept<T: 'static>(value: &T) -> bool {
    let value: &dyn Any = value;
    macro_rules! is_kept {
        ($($kind:ty),*) => { $(value.is::<$kind>() || value.is::<Vec<$kind>>())||* };
    }
    macro_rules! is_finite {
        ($($kind:ty),*) => { $(value.downcast_ref::<$kind>().is_some_and(|float| float.is_finite())
            || value.downcast_ref::<Vec<$kind>>().is_some_and(|floats| floats.iter().all(|float| float.is_finite())))||* };
    }
    let lists = value.downcast_ref::<Vec<Vec<f64>>>();
    kept!(is_kept!)
        || is_finite!(f32, f64)
        || lists.is_some_and(|lists| lists.iter().flatten().all(|float| float.is_finite()))
}

/// A copy of a kept value; `None` if it is of another type.
pub(crate) fn copy<T: 'static>(value: &(dyn Any + Send + Sync)) -> Option<T> {
    let mut copy: Option<T> = None;
    macro_rules! copy_one {
        ($kind:ty) => {
            if let Some(copy) = (&mut copy as &mut dyn Any).downcast_mut::<Option<$kind>>() {
                *copy = value.downcast_ref::<$kind>().cloned();
            }
        };
    }
    macro_rules! copy {
        ($($kind:ty),*) => {$(
            copy_one!($kind);
            copy_one!(Vec<$kind>);
        )*};
    }
    kept!(copy!);
    kept_floats!(copy!);
    copy
}

/// A copy of a range of a kept list; `None` if the list is of another type or shorter.
pub(crate) fn copy_part<T: 'static>(
    list: &(dyn Any + Send + Sync),
    part: Range<usize>,
) -> Option<Vec<T>> {
    let mut copy: Option<Vec<T>> = None;
    macro_rules! copy {
        ($($item:ty),*) => {$(
            if let Some(copy) = (&mut copy as &mut dyn Any).downcast_mut::<Option<Vec<$item>>>() {
                let items = list.downcast_ref::<Vec<$item>>();
                *copy = items.and_then(|items| items.get(part.clone())).map(<[$item]>::to_vec);
            }
        )*};
    }
    kept!(copy!);
    kept_floats!(copy!);
    copy
}

/// Approximate size of a kept value in bytes.
pub(crate) fn kept_size(value: &(dyn Any + Send + Sync)) -> usize {
    // The types that are most often counted or summed need no search.
    match value.is::<i64>() || value.is::<u64>() || value.is::<f64>() {
        true => size_of::<u64>(),
        false => size_of_one(value).unwrap_or(size_of::<Vec<u8>>()),
    }
}

/// Approximate size of `values` in bytes.
pub(crate) fn size<T: 'static>(values: &[T]) -> usize {
    if !std::mem::needs_drop::<T>() {
        return size_of_val(values);
    }
    let one = |value: &T| size_of_one(value).unwrap_or(size_of::<T>());
    values.iter().map(one).sum()
}

/// Size of a value that owns heap memory, heap included; `None` for other types. Inlined so that,
/// with a known type, the chain of downcasts folds away.
#[inline(always)]
fn size_of_one(value: &dyn Any) -> Option<usize> {
    const LIST: usize = size_of::<Vec<u8>>();
    macro_rules! lists {
        ($($item:ty),*) => {$(
            if let Some(items) = value.downcast_ref::<Vec<$item>>() {
                return Some(LIST + size(items));
            }
        )*};
    }
    if let Some(text) = value.downcast_ref::<String>() {
        return Some(LIST + text.len());
    }
    lists!(
        i64,
        u64,
        f64,
        i32,
        u32,
        f32,
        u8,
        i8,
        i16,
        u16,
        i128,
        u128,
        isize,
        usize,
        bool,
        char,
        String,
        Vec<u8>,
        Vec<i64>,
        Vec<u64>,
        Vec<f64>,
        Vec<String>
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_values_are_kept_and_others_come_back() {
        #[derive(Debug, PartialEq)]
        struct Own(i64);
        let kept = keep(vec![1i64, 2]).unwrap();
        assert_eq!(copy::<Vec<i64>>(kept.as_ref()), Some(vec![1, 2]));
        assert_eq!(
            copy::<Vec<i64>>(kept.as_ref()),
            Some(vec![1, 2]),
            "as often as it takes"
        );
        assert_eq!(copy::<Vec<u64>>(kept.as_ref()), None);
        assert!(!is_kept(&Own(3)) && !is_kept(&vec![Own(3)]));
        assert_eq!(keep(Own(3)).unwrap_err(), Own(3));
        assert_eq!(keep(vec![Own(3)]).unwrap_err(), [Own(3)]);
        let kept = keep("rain".to_owned()).unwrap();
        assert_eq!(copy::<String>(kept.as_ref()).as_deref(), Some("rain"));
    }

    #[test]
    fn a_float_that_json_cannot_write_is_not_kept() {
        assert!(keep(0.5f64).is_ok() && keep(vec![0.5f32, 1.0]).is_ok());
        assert!(keep(f64::NAN).unwrap_err().is_nan());
        assert_eq!(keep(vec![1.0, f64::INFINITY]).unwrap_err().len(), 2);
        assert!(keep(vec![vec![0.5f64]]).is_ok() && keep(vec![vec![f64::NAN]]).is_err());
        assert!(is_kept(&vec![vec![0.5f64]]) && !is_kept(&vec![vec![f64::NAN]]));
        assert!(is_kept(&0.5f32) && !is_kept(&f32::NAN) && !is_kept(&vec![1.0, f64::NAN]));
    }

    #[test]
    fn whatever_is_kept_can_be_copied_whole_and_in_part() {
        macro_rules! check {
            ($($kind:ty),*) => {$(
                assert!(is_kept(&<$kind>::default()) && is_kept(&vec![<$kind>::default()]));
                let value = keep(<$kind>::default()).unwrap();
                assert_eq!(copy::<$kind>(value.as_ref()), Some(<$kind>::default()));
                let list = keep(vec![<$kind>::default(); 3]).unwrap();
                assert_eq!(copy::<Vec<$kind>>(list.as_ref()).unwrap().len(), 3);
                assert_eq!(copy_part::<$kind>(list.as_ref(), 1..3).unwrap().len(), 2);
            )*};
        }
        kept!(check!);
        kept_floats!(check!);
    }

    #[test]
    fn a_part_of_a_list_is_copied() {
        let kept = keep(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]).unwrap();
        let part = |part| copy_part::<String>(kept.as_ref(), part);
        assert_eq!(part(1..3).unwrap(), ["b", "c"]);
        assert_eq!(part(3..3).unwrap(), [""; 0]);
        assert_eq!(part(2..4), None);
        assert_eq!(copy_part::<u8>(kept.as_ref(), 0..1), None);
    }

    #[test]
    fn sizes_count_what_is_behind_a_value() {
        assert_eq!(size(&[1u64, 2, 3]), 24);
        assert_eq!(size(&["four".to_owned()]), 24 + 4);
        assert_eq!(size(&[vec!["four".to_owned()]]), 24 + 24 + 4);
        assert_eq!(size::<String>(&[]), 0);
    }
}
