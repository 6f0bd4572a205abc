//! SVG as pixels.

use core::fmt;
use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb::Database};

/// Why there is no PNG.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PngError {
    /// The system has no font: text would be missing.
    NoFonts,
    /// It is not an SVG that can be drawn.
    Svg(String),
}

impl fmt::Display for PngError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFonts => {
                f.write_str("no font found for PNG: install one (as fonts-dejavu), or use the SVG")
            }
            Self::Svg(why) => write!(f, "the SVG cannot be drawn: {why}"),
        }
    }
}

impl core::error::Error for PngError {}

/// The fonts of the system, which take a while to look through.
fn fonts() -> Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    let load = || {
        let mut fonts = Database::new();
        fonts.load_system_fonts();
        // Whatever there is stands in for fonts that are not.
        let first = fonts.faces().find(|face| face.families.iter().any(|f| f.0.contains("Sans")));
        if let Some((name, _)) = first.and_then(|face| face.families.first().cloned()) {
            fonts.set_sans_serif_family(name);
        }
        Arc::new(fonts)
    };
    Arc::clone(FONTS.get_or_init(load))
}

/// Draws an SVG `scale` times as large as it says, as PNG.
///
/// # Errors
/// [`PngError`] says what is missing or wrong.
pub fn png(svg: &str, scale: f32) -> Result<Vec<u8>, PngError> {
    let fontdb = fonts();
    if fontdb.is_empty() {
        return Err(PngError::NoFonts);
    }
    let wrong = |error: &dyn fmt::Display| PngError::Svg(error.to_string());
    let options = Options { fontdb, ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|error| wrong(&error))?;
    let size = tree.size();
    let (width, height) = ((size.width() * scale) as u32, (size.height() * scale) as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(|| wrong(&"it has no area"))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_becomes_pixels() {
        let svg = "<svg xmlns='http://www.w3.org/2000/svg' width='8' height='4'><rect width='8' height='4'/></svg>";
        match png(svg, 2.0) {
            Ok(bytes) => {
                assert_eq!(&bytes[1..4], b"PNG");
                assert_eq!(bytes[16..24], [0, 0, 0, 16, 0, 0, 0, 8], "width and height");
                assert!(matches!(png("<svg", 1.0), Err(PngError::Svg(_))));
            }
            Err(error) => assert_eq!(error, PngError::NoFonts),
        }
    }
}
