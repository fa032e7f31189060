//! Telegram's HTML of messages: what the text is after its entities are parsed, or why the server would refuse it.

/// Tags that take no attribute but the listed ones.
const TAGS: &[&str] = &[
    "b",
    "strong",
    "i",
    "em",
    "u",
    "ins",
    "s",
    "strike",
    "del",
    "code",
    "pre",
    "a",
    "span",
    "tg-spoiler",
    "tg-emoji",
    "blockquote",
];

/// The text without its tags and entities.
///
/// # Errors
/// The words of the server, `can't parse entities: ...`.
pub(super) fn plain(html: &str) -> Result<String, String> {
    let mut out = String::with_capacity(html.len());
    let mut open: Vec<String> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('&') {
            let (letter, left) = entity(after).unwrap_or(('&', after));
            out.push(letter);
            rest = left;
            continue;
        }
        let end = rest.find('>').ok_or("can't parse entities: Unclosed start tag")?;
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(opened) if opened == name => {}
                _ => return Err(format!("can't parse entities: Unexpected end tag \"{name}\"")),
            }
        } else {
            let name = tag.split_whitespace().next().unwrap_or_default().to_owned();
            if !TAGS.contains(&name.as_str()) {
                return Err(format!("can't parse entities: Unsupported start tag \"{name}\""));
            }
            open.push(name);
        }
    }
    out.push_str(rest);
    match open.pop() {
        None => Ok(out),
        Some(name) => Err(format!("can't parse entities: Can't find end tag corresponding to start tag \"{name}\"")),
    }
}

/// The letter of an entity whose `&` was read, and what follows it.
fn entity(after: &str) -> Option<(char, &str)> {
    let (name, rest) = after.split_once(';')?;
    let letter = match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        _ => char::from_u32(name.strip_prefix('#')?.parse().ok()?)?,
    };
    Some((letter, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_entities_are_taken_out() {
        assert_eq!(plain("<b>a &lt; b</b> &amp; <pre>c</pre>").unwrap(), "a < b & c");
        assert_eq!(plain("R&D").unwrap(), "R&D");
    }

    #[test]
    fn what_the_server_would_refuse_is_refused() {
        for html in ["a < b", "<b>a", "a</b>", "<script>x</script>", "<b><i>a</b></i>"] {
            assert!(plain(html).unwrap_err().starts_with("can't parse entities"), "{html}");
        }
    }
}
