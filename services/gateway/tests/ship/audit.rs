//! What every page must have, looked at in the browser: names for what can be used, contrast, room for a thumb, one
//! column.

use serde_json::Value;

use crate::browser::{Screen, Tab};

/// Answers a list of faults. Contrast by WCAG 2.2 (1.4.3): 4.5, or 3 for large text.
const LOOK: &str = r#"
(() => {
  const faults = [];
  const visible = (e) => {
    if (e.closest('.unseen, .skip, [hidden]')) return false;
    const r = e.getBoundingClientRect();
    return r.width > 0 && r.height > 0 && getComputedStyle(e).visibility !== 'hidden';
  };
  const name = (e) => {
    const id = e.id ? '#' + e.id : '';
    return `${e.tagName.toLowerCase()}${id} “${(e.textContent || '').trim().slice(0, 40)}”`;
  };

  // One column: nothing reaches past the screen.
  const width = document.documentElement.clientWidth;
  const wide = document.documentElement.scrollWidth;
  if (wide > width) faults.push(`wider than the screen: ${wide} > ${width}`);
  for (const e of document.querySelectorAll('body *')) {
    if (!visible(e) || e.closest('.says, .stack thead')) continue;
    if (e.getBoundingClientRect().right > width + 1) faults.push(`past the right edge: ${name(e)}`);
  }

  // Landmarks, language, headings.
  if (document.documentElement.lang !== 'en') faults.push('no language');
  if (document.querySelectorAll('main').length !== 1) faults.push('not one main');
  if (document.querySelectorAll('h1').length !== 1) faults.push('not one h1');
  if (!document.title.trim()) faults.push('no title');
  let level = 0;
  for (const h of document.querySelectorAll('h1, h2, h3, h4')) {
    const own = Number(h.tagName[1]);
    if (h.closest('main') && own > level + 1 && level > 0) faults.push(`heading skips a level: ${name(h)}`);
    if (h.closest('main')) level = own;
  }
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  ids.filter((id, at) => ids.indexOf(id) !== at).forEach((id) => faults.push(`id twice: ${id}`));

  // Names.
  for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
    if (!e.labels || !e.labels.length) faults.push(`no label: ${name(e)}`);
  }
  for (const e of document.querySelectorAll('a, button, summary')) {
    if (!e.textContent.trim() && !e.ariaLabel) faults.push(`no name: ${e.outerHTML.slice(0, 80)}`);
  }
  for (const e of document.querySelectorAll('[aria-labelledby], [aria-describedby]')) {
    for (const attribute of ['aria-labelledby', 'aria-describedby']) {
      for (const id of (e.getAttribute(attribute) || '').split(' ').filter(Boolean)) {
        if (!document.getElementById(id)) faults.push(`${attribute} names nothing: ${id}`);
      }
    }
  }
  for (const e of document.querySelectorAll('svg[role=img]')) {
    if (!e.querySelector('title') || !e.querySelector('desc')) faults.push('picture without title and words');
  }

  // Room for a thumb; links within a sentence are exempt (2.5.8).
  for (const e of document.querySelectorAll('button, .button, nav a, summary, input:not([type=hidden]), #state a')) {
    const r = e.getBoundingClientRect();
    const small = r.height < 43.5 || r.width < 43.5;
    if (visible(e) && small) faults.push(`${Math.round(r.width)} x ${Math.round(r.height)}: ${name(e)}`);
  }

  // Contrast.
  const parse = (text) => {
    const found = text.match(/[\d.]+/g);
    return found ? found.map(Number) : [0, 0, 0, 0];
  };
  const light = ([r, g, b]) => {
    const part = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    const unseen = ['SCRIPT', 'STYLE', 'NOSCRIPT', 'TITLE', 'DESC'].includes(e.tagName.toUpperCase());
    if (!node.data.trim() || !visible(e) || unseen) continue;
    const style = getComputedStyle(e);
    const ink = parse(e.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) faults.push(`contrast ${ratio.toFixed(2)}: ${name(e)}`);
  }

  // What the keyboard is on can be seen.
  for (const e of document.querySelectorAll('a, button, summary, input:not([type=hidden])')) {
    if (!visible(e) || e.disabled) continue;
    e.focus({ focusVisible: true, preventScroll: true });
    if (document.activeElement !== e) { faults.push(`no focus: ${name(e)}`); continue; }
    const style = getComputedStyle(e);
    const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
    if (!outlined) faults.push(`focus is not seen: ${name(e)}`);
  }
  document.activeElement.blur();
  return faults;
})()
"#;

/// Passes when the page that is shown has no fault.
pub async fn check(tab: &Tab, what: &str, screen: Screen) {
    let found = tab.ask(LOOK).await;
    let faults: Vec<&str> = found.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(faults.is_empty(), "{what} at {} px: {faults:#?}", screen.width);
}
