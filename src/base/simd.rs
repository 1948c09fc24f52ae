//! Loops compiled twice: for any processor, and for one with AVX2.

/// Defines a function whose body is compiled twice, and the form that fits this processor is run.
///
/// Multiplications and additions are never fused, so that results are the same either way.
macro_rules! quick {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $ty),*) {
                    body($($arg),*);
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    #[expect(unsafe_code, reason = "a function that needs processor features")]
                    // SAFETY: the feature was found on this processor.
                    unsafe {
                        wide($($arg),*);
                    }
                    return;
                }
            }
            body($($arg),*);
        }
    };
}
pub(crate) use quick;
