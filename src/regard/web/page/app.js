// The page of Regard. Its state is the URL: q (sentence), vs (another one), not, like (id), f (filters), w (pressed word).
// Pictures come from /v1/search; each visible one asks /v1/explain which region answers which word.

const PER_LIST = 12; // pictures per page of results
const COMPARED = 48; // ranks that are compared when there are two sentences
const SIDE = 640; // pixels of a picture
const COLOURS = 8;
const SMALL = new Set("a an the and or of in on at to by with for from is are as it its his her their".split(" "));
const ARTICLES = new Set(["a", "an", "the"]);
const OPERATORS = {
  integer: ["=", "!=", "<", "<=", ">", ">=", "in"],
  number: ["=", "!=", "<", "<=", ">", ">=", "in"],
  text: ["=", "!=", "contains", "in", "<", "<=", ">", ">="],
  texts: ["contains"],
};

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element. Properties that begin with "on" are listeners. */
function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** Make an SVG element. */
function s(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
const signed = (value) => `${value < 0 ? "" : "+"}${number(value, 3)}`;

// The server --------------------------------------------------------------------------------------------------------

/** Ask the API. A full queue (429) is waited for; other errors are thrown with the line of the server. */
async function api(path, options = {}, tries = 6) {
  const response = await fetch(path, options);
  if (response.status === 429 && tries > 0) {
    await wait(1000 * Number(response.headers.get("Retry-After") ?? 1));
    return api(path, options, tries - 1);
  }
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) $("login").hidden = false;
  if (!response.ok) throw new Error(body.detail ?? `The server answered ${response.status}.`);
  return body;
}

function search(body, signal) {
  const headers = { "Content-Type": "application/json" };
  return api("/v1/search", { method: "POST", headers, body: JSON.stringify(body), signal });
}

const explanations = new Map();
let running = 0;
const waiting = [];

/** Return the explanation of a picture and a sentence, or two. At most two are computed at a time. */
function explain(id, sentence, against = "") {
  const query = new URLSearchParams({ id, sentence, ...(against && { against }) });
  const key = query.toString();
  if (!explanations.has(key)) {
    const asked = new Promise((resolve, reject) => waiting.push({ query, resolve, reject }));
    asked.catch(() => explanations.delete(key));
    explanations.set(key, asked);
    explainNext();
  }
  return explanations.get(key);
}

async function explainNext() {
  if (running >= 2 || !waiting.length) return;
  running += 1;
  const { query, resolve, reject } = waiting.shift();
  try {
    resolve((await api(`/v1/explain?${query}`)).explanation);
  } catch (error) {
    reject(error);
  }
  running -= 1;
  explainNext();
}

// The state ---------------------------------------------------------------------------------------------------------

/** Read the state from the URL. */
function readState() {
  const given = new URLSearchParams(location.search);
  const state = Object.fromEntries(["q", "vs", "not", "like", "w"].map((name) => [name, given.get(name) ?? ""]));
  try {
    state.f = JSON.parse(given.get("f") ?? "[]");
  } catch {
    state.f = [];
  }
  return state;
}

function urlOf(state) {
  const entries = Object.entries({ ...state, f: state.f.length ? JSON.stringify(state.f) : "" });
  const query = new URLSearchParams(entries.filter(([, value]) => value)).toString();
  return query ? `/?${query}` : "/";
}

/** Go to another state, as a new entry of the history. */
function go(state) {
  history.pushState(null, "", urlOf(state));
  show();
}

let lists = []; // of the shown sentences: { sentence, words, group, cards }
let hovered = ""; // the word under the pointer or with the focus
let pressed = "";
let cursor = null;
let request = null;
let aborter = new AbortController();
let colours = new Map();

// Showing a state ----------------------------------------------------------------------------------------------------

/** Show the state of the URL: fill the form, search, and draw the results. */
async function show() {
  const state = readState();
  aborter.abort();
  aborter = new AbortController();
  const { signal } = aborter;
  fillForm(state);
  [pressed, hovered, waiting.length] = [state.w, "", 0];
  explanations.clear();
  $("error").hidden = true;
  $("more").hidden = true;
  $("welcome").hidden = Boolean(state.q || state.like);
  document.title = state.q ? `${state.q} – Regard` : "Regard";
  if (!state.q && !state.like) {
    $("results").replaceChildren();
    $("status").textContent = "";
    return;
  }
  const sentences = state.like ? [""] : [state.q, state.vs].filter(Boolean);
  const queries = state.like
    ? [{ image: state.like }]
    : sentences.map((sentence) => ({ sentence, minus: state.not }));
  request = { queries, k: sentences.length > 1 ? COMPARED : PER_LIST, filters: state.f };
  $("results").classList.add("busy");
  try {
    const found = await search(request, signal);
    draw(state, sentences, found);
  } catch (error) {
    if (signal.aborted) return;
    $("results").replaceChildren();
    $("status").textContent = "";
    report(error);
  } finally {
    if (!signal.aborted) $("results").classList.remove("busy");
  }
}

function report(error) {
  $("error").textContent = error.message;
  $("error").hidden = false;
}

/** Say which parts of the collection are not in an answer. A server of one index has no parts. */
function reportMissing(found) {
  const missing = found.partial ?? [];
  if (!missing.length) return;
  const reasons = missing.map(({ shard, reason }) => `Shard ${shard}: ${reason}.`).join(" ");
  report({ message: `Some pictures could not be searched. ${reasons}` });
}

function draw(state, sentences, found) {
  visible.disconnect();
  sizes.disconnect();
  lists = sentences.map((sentence) => ({ sentence, words: split(sentence), cards: [] }));
  colours = new Map();
  const content = lists.flatMap((list) => list.words).filter((word) => !SMALL.has(word));
  [...new Set(content)].forEach((word, place) => colours.set(word, `c${place % COLOURS}`));

  const ranks = found.answers.map((answer) => new Map(answer.hits.map((hit) => [hit.id, hit.rank])));
  const sections = lists.map((list, place) => {
    list.group = h("div", { class: "sentence", role: "group", "aria-label": "Words of the sentence" });
    list.pictures = h("ol", { class: "pictures", "aria-label": list.sentence || `Pictures like ${state.like}` });
    list.ranks = lists.length > 1 ? ranks[1 - place] : null;
    addCards(list, found.answers[place].hits.slice(0, PER_LIST));
    if (state.like) list.group = likeness(state.like);
    else drawWords(list);
    return h("section", {}, list.group, list.pictures);
  });
  $("results").replaceChildren(
    h("div", { class: lists.length > 1 ? "lists two" : "lists" }, ...sections),
  );
  cursor = lists.length > 1 ? null : found.next;
  $("more").hidden = !cursor;
  $("status").textContent = summary(found);
  reportMissing(found);
  paintAll();
}

/** Split a sentence into words, until an explanation says how the model splits it. */
function split(sentence) {
  return sentence.toLowerCase().match(/[\p{L}\p{N}][\p{L}\p{N}'’-]*/gu) ?? [];
}

function summary(found) {
  const [answer] = found.answers;
  if (!answer.hits.length) return "No picture satisfies the filters.";
  const parts = [`${answer.candidates.toLocaleString("en")} pictures`, `${Math.round(found.seconds.total * 1000)} ms`];
  if (answer.shortlist && answer.shortlist < answer.candidates) {
    parts.push(`the best ${answer.shortlist.toLocaleString("en")} by summary are scored exactly`);
  }
  if (answer.recall != null) parts.push(`${number(answer.recall, 1)} % of the exact top 10 are found`);
  return parts.join(" · ");
}

function likeness(id) {
  return h(
    "div",
    { class: "sentence" },
    "Pictures like",
    h("img", { src: pictureUrl(id, 160), alt: id }),
  );
}

const pictureUrl = (id, side) => `/v1/items/${encodeURIComponent(id)}/picture?side=${side}`;

// Words -----------------------------------------------------------------------------------------------------------

function drawWords(list) {
  list.group.replaceChildren(
    ...list.words.map((word, place) =>
      h(
        "button",
        {
          type: "button",
          class: `word ${colours.get(word) ?? "small"}`,
          tabindex: place ? -1 : 0,
          "data-word": word,
          "aria-pressed": String(word === pressed),
          onpointerenter: (event) => event.pointerType === "mouse" && hover(word),
          onpointerleave: () => hover(""),
          onfocus: (event) => event.target.matches(":focus-visible") && hover(word),
          onblur: () => hover(""),
          onclick: () => press(word === pressed ? "" : word),
        },
        word,
      ),
    ),
  );
}

function hover(word) {
  if (word === hovered) return;
  hovered = word;
  paintAll();
}

function press(word) {
  [pressed, hovered] = [word, ""];
  history.replaceState(null, "", urlOf({ ...readState(), w: word }));
  paintAll();
}

function paintAll() {
  const word = hovered || pressed;
  for (const button of document.querySelectorAll(".word")) {
    button.setAttribute("aria-pressed", String(button.dataset.word === pressed));
    button.classList.toggle("lit", button.dataset.word === word);
  }
  for (const list of lists) list.cards.forEach(paint);
}

// Pictures ----------------------------------------------------------------------------------------------------------

const visible = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      visible.unobserve(target);
      const card = lists.flatMap((list) => list.cards).find(({ element }) => element === target);
      if (card?.list.sentence) explainCard(card);
    }
  },
  { rootMargin: "100px" },
);

/** A drawing has the units of the screen, so that its text has one size on every picture. */
const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const card = lists.flatMap((list) => list.cards).find(({ frame }) => frame === target);
    if (!card) continue;
    [card.width, card.height] = [contentRect.width, contentRect.height];
    card.overlay.setAttribute("viewBox", `0 0 ${card.width} ${card.height}`);
    paint(card);
  }
});

async function explainCard(card) {
  try {
    card.explanation = await explain(card.hit.id, card.list.sentence);
  } catch {
    return; // the picture stays, without regions
  }
  const { words } = card.explanation;
  if (words.join(" ") !== card.list.words.join(" ")) {
    card.list.words = words;
    for (const word of words) {
      if (!SMALL.has(word) && !colours.has(word)) colours.set(word, `c${colours.size % COLOURS}`);
    }
    drawWords(card.list);
  }
  card.relations = relationsOf(card.explanation);
  writeEvidence(card);
  paint(card);
}

function addCards(list, hits) {
  for (const hit of hits) {
    const card = { hit, list, isPointed: false };
    card.overlay = s("svg", { "aria-hidden": "true", focusable: "false" });
    card.evidence = h("ul", { class: "evidence", "aria-label": "Regions of the words" });
    card.frame = h("div", { class: "frame" }, pictureOf(card), card.overlay);
    const name = `${hit.rank}. ${hit.id}, score ${number(hit.score)}`;
    card.element = h(
      "li",
      {
        class: "picture",
        tabindex: list.cards.length ? -1 : 0,
        "data-id": hit.id,
        "aria-label": name,
        onpointerenter: () => point(card, true),
        onpointerleave: () => point(card, false),
        onfocusin: () => point(card, true),
        onfocusout: () => point(card, false),
      },
      card.frame,
      h(
        "div",
        { class: "caption" },
        h("span", { class: "rank" }, hit.rank),
        h("span", { class: "name", title: hit.id }, hit.id),
        list.ranks ? movement(hit, list.ranks) : null,
        h("span", { class: "score", title: partsOf(hit) }, number(hit.score)),
      ),
      card.evidence,
      h(
        "button",
        { type: "button", class: "like quiet", onclick: () => go({ q: "", vs: "", not: "", w: "", f: readState().f, like: hit.id }) },
        "More like this",
        h("span", { class: "hidden" }, `: ${hit.id}`),
      ),
      list.sentence ? comparison(card) : null,
      hit.gap && !list.ranks ? h("span", { class: "gap" }, "after this picture the scores fall most") : null,
    );
    list.cards.push(card);
    list.pictures.append(card.element);
    visible.observe(card.element);
    sizes.observe(card.frame);
  }
}

function pictureOf(card) {
  const image = h("img", { alt: `Picture ${card.hit.id}`, loading: "lazy", decoding: "async" });
  image.addEventListener("load", () => card.frame.classList.add("loaded"));
  image.addEventListener("error", () => card.element.classList.add("missing"));
  image.src = pictureUrl(card.hit.id, SIDE);
  return image;
}

const partsOf = (hit) => Object.entries(hit.parts ?? {}).map(([name, part]) => `${name} ${number(part)}`).join(", ");

/** Where the other sentence ranks the picture. */
function movement(hit, others) {
  const other = others.get(hit.id);
  if (!other) return h("span", { class: "moved", title: `not among the first ${COMPARED} of the other sentence` }, "only here");
  const change = other - hit.rank;
  const sign = change > 0 ? `▲ ${change}` : change < 0 ? `▼ ${-change}` : "=";
  return h("span", { class: "moved", title: `rank ${other} for the other sentence` }, sign, h("span", { class: "hidden" }, `, rank ${other} for the other sentence`));
}

function point(card, isPointed) {
  card.isPointed = isPointed;
  paint(card);
  for (const list of lists) {
    for (const other of list.cards) {
      if (other !== card && other.hit.id === card.hit.id) other.element.classList.toggle("twin", isPointed);
    }
  }
}

/** List the regions of the words as text, beside each picture. */
function writeEvidence(card) {
  const { words, weights, best_regions: best } = card.explanation;
  const lines = words.flatMap((word, place) => {
    if (SMALL.has(word) || best[place] < 0) return [];
    const text = `: region ${best[place]}, ${number(weights[best[place]][place])}`;
    return [h("li", { class: colours.get(word), "data-word": word }, h("b", {}, word), text)];
  });
  const named = (region) => [card.explanation.regions[region].label, `region ${region}`].filter(Boolean).join(", ");
  const relations = card.relations.slice(0, 1).map(({ subject, predicate, object }) =>
    h("li", { class: "relation" }, `${named(subject)} – ${predicate} – ${named(object)}`),
  );
  card.evidence.replaceChildren(...lines, ...relations);
}

// Another sentence for one picture ---------------------------------------------------------------------------------------

/** A part of a picture's card that opens: what decides between its sentence and another one. */
function comparison({ hit, list }) {
  const other = lists.find((each) => each !== list)?.sentence ?? "";
  const input = h("input", { type: "search", maxlength: 2000, required: true, spellcheck: "false", autocapitalize: "none", value: other, "aria-label": `Another sentence for ${hit.id}`, placeholder: "another sentence" });
  const result = h("div", { role: "status" });
  const compare = async (event) => {
    event.preventDefault();
    result.replaceChildren("comparing …");
    try {
      result.replaceChildren(...decisive(await explain(hit.id, list.sentence, input.value.trim())));
    } catch (error) {
      result.replaceChildren(h("p", { class: "problem" }, error.message));
    }
  };
  return h(
    "details",
    { class: "against" },
    h("summary", {}, "Compare with a sentence", h("span", { class: "hidden" }, `: ${hit.id}`)),
    h("form", { onsubmit: compare }, input, h("button", { type: "submit", class: "quiet" }, "Compare")),
    result,
  );
}

/** Say what decides between two sentences: words in place of others, and relations, each with its effect. */
function decisive({ score, against }) {
  const { margin, decisive_words: words, decisive_relations: relations } = against;
  const quoted = (some) => (some.length ? `“${some.join(" ")}”` : "nothing");
  const notable = relations.filter((each) => each.notable).sort((one, other) => Math.abs(other.effect) - Math.abs(one.effect));
  const lines = [
    ...words.map(({ words, other, effect }) => [`${quoted(words)} in place of ${quoted(other)}`, effect]),
    ...notable.slice(0, 3).map(({ subject, predicate, object, effect }) => [`${subject} – ${predicate} – ${object}`, effect]),
  ];
  return [
    h("p", {}, h("b", {}, signed(margin)), `: ${number(score, 3)} against ${number(against.score, 3)}`),
    h("ul", {}, ...lines.map(([text, effect]) => h("li", {}, text, h("span", {}, ` ${signed(effect)}`)))),
    ...(relations.length && !notable.length ? [h("p", {}, "No relation of the picture decides more than noise.")] : []),
  ];
}

// Regions and relations over a picture ----------------------------------------------------------------------------------

/** Return the relations of a picture that matter for the sentence, those that matter most first. */
function relationsOf(explanation) {
  const { matched_relations: matched, image_relations: relations } = explanation;
  const region = (name) => Number.parseInt(name, 10); // a region is named by its number and its class
  const found = matched
    .filter(({ text }) => text[0] && text[2])
    .sort((one, other) => other.score - one.score)
    .map(({ text, image }) => ({ ends: image, words: text, predicate: image[1] || text[1] }));
  const notable = relations
    .filter(({ notable, effect }) => notable && effect > 0)
    .sort((one, other) => other.effect - one.effect)
    .map(({ subject, predicate, object }) => {
      const words = wordsOf(explanation, region(subject), region(object));
      return { ends: [subject, predicate, object], words, predicate };
    });
  return [...found, ...notable]
    .map(({ ends, ...rest }) => ({ ...rest, subject: region(ends[0]), object: region(ends[2]) }))
    .filter(({ subject, object }) => subject !== object && boxOf(explanation, subject) && boxOf(explanation, object));
}

/** Return the words of a relation between two regions: those that the regions answer best, and those between them. */
function wordsOf({ words, best_regions: best }, subject, object) {
  const place = (region) => best.findIndex((each, at) => each === region && !SMALL.has(words[at]));
  const [first, last] = [place(subject), place(object)].sort((one, other) => one - other);
  const own = first < 0 ? [words[last]] : words.slice(first, last + 1);
  return own.filter((word) => !ARTICLES.has(word));
}

const boxOf = (explanation, region) => explanation.regions[region]?.box ?? null;

/** Draw over a picture: the regions of the active word, or of all words while the picture is pointed at. */
function paint(card) {
  const { explanation, overlay } = card;
  const active = hovered || pressed;
  for (const line of card.evidence.children) line.classList.toggle("lit", line.dataset.word === active);
  overlay.replaceChildren();
  if (!explanation || !card.height) return;
  const place = explanation.words.indexOf(active);
  const regions = new Map(); // region -> what is drawn of it
  const relation = card.relations.find(({ words }) => (active ? words.includes(active) : card.isPointed));
  if (place >= 0) {
    for (const { region, share } of strongest(explanation, place)) {
      regions.set(region, { word: active, share, weight: explanation.weights[region][place] });
    }
  }
  if (card.isPointed && !active) {
    explanation.words.forEach((word, at) => {
      const region = explanation.best_regions[at];
      if (!SMALL.has(word) && region >= 0 && !regions.has(region)) regions.set(region, { word, share: 1 });
    });
  }
  for (const region of relation ? [relation.subject, relation.object] : []) {
    const at = explanation.best_regions.findIndex((best, at) => best === region && !SMALL.has(explanation.words[at]));
    if (!regions.has(region)) regions.set(region, { word: explanation.words[at] ?? "", share: 1 });
  }
  const drawn = [...regions].map(([region, what]) => ({ ...what, box: scaled(card, region) })).filter(({ box }) => box);
  if (active && drawn.length) overlay.append(shade(card, drawn));
  overlay.append(...drawn.map(rectangle));
  const taken = []; // the places of texts
  if (relation) {
    overlay.append(arrow(scaled(card, relation.subject), scaled(card, relation.object), relation.predicate, card, taken));
  }
  overlay.append(...drawn.filter(({ word, share }) => word && share === 1).map((each) => tag(each, card, taken)));
}

/** Return the regions that answer a word: the best one, and up to two others that are nearly as good. */
function strongest({ weights }, place) {
  const all = weights.map((row, region) => ({ region, weight: row[place] })).filter(({ weight }) => weight > 0);
  all.sort((one, other) => other.weight - one.weight);
  return all
    .slice(0, 3)
    .map(({ region, weight }) => ({ region, share: weight / all[0].weight }))
    .filter(({ share }) => share > 0.6);
}

/** Return a region's box in units of the drawing, a little inside the picture so that its line is seen. */
function scaled(card, region) {
  const box = boxOf(card.explanation, region);
  if (!box) return null;
  const inside = (value, length) => Math.min(Math.max(value * length, 2), length - 2);
  const [x1, x2] = [inside(box[0], card.width), inside(box[2], card.width)];
  const [y1, y2] = [inside(box[1], card.height), inside(box[3], card.height)];
  return { x: x1, y: y1, width: Math.max(x2 - x1, 2), height: Math.max(y2 - y1, 2) };
}

/** Everything but the regions, darkened. */
function shade(card, drawn) {
  const holes = drawn.map(({ box: { x, y, width, height } }) => s("rect", { x, y, width, height, rx: 3, fill: "black" }));
  const id = `mask-${(masks += 1)}`;
  const all = { width: card.width, height: card.height };
  return s("g", {}, s("mask", { id }, s("rect", { ...all, fill: "white" }), ...holes), s("rect", { ...all, class: "shade", mask: `url(#${id})` }));
}

let masks = 0;

function rectangle({ box, word, share }) {
  return s("rect", { ...box, rx: 3, class: `region ${colours.get(word) ?? "small"}`, opacity: 0.35 + 0.65 * share });
}

/** Return the first of some places of a text, given by their middles, that no other text covers. */
function freePlace(candidates, width, height, card, taken) {
  const clamp = (value, most) => Math.max(1, Math.min(value, most - 1));
  const places = candidates.map(([x, y]) => ({
    x: clamp(x - width / 2, card.width - width),
    y: clamp(y - height / 2, card.height - height),
  }));
  const isFree = ({ x, y }) =>
    taken.every((other) => Math.abs(other.x - x) >= (other.width + width) / 2 + 1 || Math.abs(other.y - y) >= height + 1);
  const middle = ({ x, y }) => ({ x: x + width / 2, y: y + height / 2 });
  const place = places.find((each) => isFree(middle(each))) ?? places[0];
  taken.push({ ...middle(place), width });
  return place;
}

function tag({ box, word, weight }, card, taken) {
  const text = weight == null ? word : `${word} ${number(weight)}`;
  const [width, height] = [7.6 * text.length + 14, 19];
  const [left, right] = [box.x + width / 2, box.x + box.width - width / 2];
  const [above, below] = [box.y - 12, box.y + box.height + 12];
  const candidates = [[left, above], [right, above], [left, below], [right, below], [left, box.y + 12]];
  const { x, y } = freePlace(candidates, width, height, card, taken);
  return s(
    "g",
    { class: `tag ${colours.get(word) ?? "small"}` },
    s("rect", { x, y, width, height, rx: 4 }),
    s("text", { x: x + width / 2, y: y + 13.5, "text-anchor": "middle" }, text),
  );
}

/** An arrow from the middle of the subject to that of the object, bent more if they are near, with the predicate. */
function arrow(subject, object, predicate, card, taken) {
  const middle = ({ x, y, width, height }) => [x + width / 2, y + height / 2];
  const [[x1, y1], [x2, y2]] = [middle(subject), middle(object)];
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const [mx, my] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const across = [(y2 - y1) / length, (x1 - x2) / length]; // the direction of the bend: to the middle of the picture
  const side = across[0] * (card.width / 2 - mx) + across[1] * (card.height / 2 - my) < 0 ? -1 : 1;
  const bend = side * Math.max(length / 4, 90 - length / 2);
  const at = (distance) => [mx + across[0] * distance, my + across[1] * distance];
  const [cx, cy] = at(bend);
  const angle = Math.atan2(y2 - cy, x2 - cx);
  const corner = (turn) => `${x2 - 13 * Math.cos(angle + turn)} ${y2 - 13 * Math.sin(angle + turn)}`;
  const line = `M${x1} ${y1}Q${cx} ${cy} ${x2 - 9 * Math.cos(angle)} ${y2 - 9 * Math.sin(angle)}`;
  const [width, height] = [7.6 * predicate.length + 14, 20];
  const beside = side * (Math.abs(across[0]) * (width / 2) + Math.abs(across[1]) * 10 + 4);
  const place = predicate && freePlace([at(bend / 2 + (length < 120 ? beside : 0))], width, height, card, taken);
  return s(
    "g",
    { class: "arrow" },
    s("path", { d: line, class: "edge" }),
    s("path", { d: line }),
    s("path", { d: `M${x2} ${y2}L${corner(0.45)}L${corner(-0.45)}Z`, class: "head" }),
    s("circle", { cx: x1, cy: y1, r: 4.5 }),
    predicate ? s("rect", { ...place, width, height, rx: 10 }) : null,
    predicate ? s("text", { x: place.x + width / 2, y: place.y + 14, "text-anchor": "middle" }, predicate) : null,
  );
}

// The form ------------------------------------------------------------------------------------------------------------

let columns = {};

function fillForm(state) {
  [$("sentence").value, $("other").value, $("minus").value] = [state.q, state.vs, state.not];
  toggle("comparing", "compare", Boolean(state.vs));
  toggle("filtering", "filters", Boolean(state.f.length || state.not));
  $("conditions").replaceChildren(...state.f.map(conditionRow));
}

function toggle(button, panel, isOpen) {
  $(panel).hidden = !isOpen;
  $(button).setAttribute("aria-expanded", String(isOpen));
}

function conditionRow({ column = Object.keys(columns)[0] ?? "", op = "", value = "" } = {}) {
  const choices = (names, chosen) => names.map((name) => h("option", { value: name, selected: name === chosen }, name));
  const names = column in columns || !column ? Object.keys(columns) : [column, ...Object.keys(columns)];
  const of = (name) => OPERATORS[columns[name]] ?? OPERATORS.text;
  const operators = h("select", { "aria-label": "Operator" }, ...choices(op && !of(column).includes(op) ? [op, ...of(column)] : of(column), op));
  const change = (event) => operators.replaceChildren(...choices(of(event.target.value), ""));
  const row = h(
    "p",
    { class: "row condition" },
    h("select", { "aria-label": "Column", onchange: change }, ...choices(names, column)),
    operators,
    h("input", { type: "text", "aria-label": "Value", value: Array.isArray(value) ? value.join(", ") : value }),
    h("button", { type: "button", class: "quiet", onclick: () => row.remove() }, "Remove"),
  );
  return row;
}

function readConditions() {
  return [...document.querySelectorAll(".condition")].flatMap((row) => {
    const [column, op, text] = [...row.querySelectorAll("select, input")].map((input) => input.value.trim());
    if (!text) return [];
    const isNumber = ["integer", "number"].includes(columns[column]);
    const read = (part) => (isNumber && part.trim() !== "" && Number.isFinite(Number(part)) ? Number(part) : part.trim());
    return [{ column, op, value: op === "in" ? text.split(",").map(read) : read(text) }];
  });
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const isComparing = !$("compare").hidden;
  const [q, vs] = [$("sentence").value.trim(), isComparing ? $("other").value.trim() : ""];
  go({ q, vs, not: $("minus").value.trim(), like: q ? "" : readState().like, f: readConditions(), w: "" });
});

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await api("/v1/session", { method: "POST", headers: { Authorization: `Bearer ${$("token").value}` } });
    $("login").hidden = true;
    $("error").hidden = true;
    await start();
  } catch (error) {
    report(error);
  }
});

for (const [button, panel, first] of [["comparing", "compare", "other"], ["filtering", "filters", "minus"]]) {
  $(button).addEventListener("click", () => {
    toggle(button, panel, $(panel).hidden);
    if (!$(panel).hidden) $(first).focus();
  });
}

$("add-filter").addEventListener("click", () => {
  $("conditions").append(conditionRow());
  $("conditions").lastChild.querySelector("select").focus();
});

$("more").addEventListener("click", async () => {
  const { signal } = aborter;
  try {
    const found = await search({ ...request, cursor }, signal);
    const [list] = lists;
    const first = list.cards.length;
    addCards(list, found.answers[0].hits);
    reportMissing(found);
    cursor = found.next;
    $("more").hidden = !cursor;
    list.cards[first]?.element.focus();
  } catch (error) {
    if (!signal.aborted) report(error);
  }
});

// The keyboard ---------------------------------------------------------------------------------------------------------

/** Move the focus among elements of which only one is in the order of Tab. */
function move(items, from, to) {
  if (!to) return;
  for (const item of items) item.tabIndex = item === to ? 0 : -1;
  to.focus();
}

/** Return the picture above (-1) or below (1). */
function neighbour(items, from, direction) {
  const middle = (item) => item.offsetLeft + item.offsetWidth / 2;
  const rows = items.filter((item) => Math.sign(item.offsetTop - from.offsetTop) === direction);
  const distance = (item) => Math.abs(item.offsetTop - from.offsetTop) * 10 + Math.abs(middle(item) - middle(from));
  return rows.sort((one, other) => distance(one) - distance(other))[0];
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target, key } = event;
  if (key === "Escape" && (pressed || hovered)) press("");
  if (key === "/" && !target.matches("input, select")) {
    event.preventDefault();
    $("sentence").select();
  }
  const item = target.closest(".word") ?? (target.matches(".picture") ? target : null);
  if (!item) return;
  const items = [...item.parentElement.querySelectorAll(`:scope > .${item.classList[0]}`)];
  const place = items.indexOf(item);
  const isPicture = item.matches(".picture");
  const next = {
    ArrowRight: items[place + 1],
    ArrowLeft: items[place - 1],
    Home: items[0],
    End: items.at(-1),
    ArrowDown: isPicture ? neighbour(items, item, 1) : null,
    ArrowUp: isPicture ? neighbour(items, item, -1) : null,
  }[key];
  if (!next) return;
  event.preventDefault();
  move(items, item, next);
});

// Start ------------------------------------------------------------------------------------------------------------------

async function start() {
  try {
    const collection = await api("/v1/collection");
    columns = collection.columns;
    document.body.classList.toggle("sentences-only", !collection.image_queries);
    $("collection").textContent = `${collection.items.toLocaleString("en")} pictures`;
    $("no-columns").hidden = Object.keys(columns).length > 0;
    $("add-filter").hidden = !$("no-columns").hidden;
  } catch (error) {
    if ($("login").hidden) report(error);
    return;
  }
  await show();
}

// A link to another state of the page changes it without loading it again.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/?'], a[href='/']");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  show();
});

window.addEventListener("popstate", show);
await start();
