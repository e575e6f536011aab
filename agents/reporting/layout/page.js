"use strict";
// Everything that a run wrote is hostile: it reaches the page through textContent alone.
const { runs } = JSON.parse(document.getElementById("data").textContent);
const PAGE = 50; // rows that are added at a time
const at = (id) => document.getElementById(id);
const el = (tag, name = "", text = "", ...children) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  made.append(...children);
  return made;
};
const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const written = (edits) => edits.filter((edit) => edit.text !== null).length;
const roundOf = (edit) => (edit.phase === "train" ? `round ${edit.round}` : "comparison");

const problems = new Map();
runs.forEach((run, side) =>
  run.episodes.forEach((edit) => {
    const [id, title] = [edit.problem, edit.title || edit.problem]; // few-shot's have no titles
    if (!problems.has(id)) problems.set(id, { id, order: problems.size, title, edits: [] });
    edit.side = side;
    problems.get(edit.problem).edits.push(edit);
  }),
);
const known = (id) => runs.find((run) => Object.hasOwn(run.problems, id))?.problems[id] || null;

function fill(id, values) {
  for (const value of new Set(values)) {
    const option = el("option", "", value);
    option.value = value;
    at(id).append(option);
  }
}
const all = runs.flatMap((run) => run.episodes);
fill("policy", all.map((edit) => edit.policy));
fill("round", all.map(roundOf));
fill("style", all.map((edit) => edit.style).filter((style) => style));

const keys = {
  order: (one) => one.order,
  best: (one) => -Math.max(...one.rewards),
  worst: (one) => Math.min(...one.rewards),
  spread: (one) => Math.min(...one.rewards) - Math.max(...one.rewards),
  gain: (one) => -Math.max(...one.shown.map((edit) => (edit.accuracy ?? 0) - (edit.accuracy_before ?? 0))),
};
let rows = [];
let drawn = 0;

function matches(edit) {
  const [policy, round, style, kind] = ["policy", "round", "style", "kind"].map((id) => at(id).value);
  return (
    (!policy || edit.policy === policy) &&
    (!round || roundOf(edit) === round) &&
    (!style || edit.style === style) &&
    (!kind || (kind === "invalid") === Boolean(edit.error))
  );
}

function update() {
  const words = at("search").value.toLowerCase();
  const has = (text) => (text || "").toLowerCase().includes(words);
  rows = [];
  for (const one of problems.values()) {
    let shown = one.edits.filter(matches);
    const whole = !words || has(one.title) || has(one.id) || has(known(one.id)?.context);
    if (!whole) shown = shown.filter((edit) => has(edit.text));
    if (shown.length) rows.push({ ...one, shown, rewards: shown.map((edit) => edit.reward ?? -Infinity) });
  }
  const sort = at("sort").value;
  if (sort === "title") rows.sort((a, b) => a.title.localeCompare(b.title));
  else {
    const ranked = rows.map((row) => [keys[sort](row), row]);
    ranked.sort((a, b) => a[0] - b[0] || a[1].order - b[1].order);
    rows = ranked.map((pair) => pair[1]);
  }
  const edits = rows.reduce((sum, row) => sum + written(row.shown), 0);
  at("count").textContent = `${rows.length} problems, ${edits} self-edits`;
  at("list").replaceChildren();
  drawn = 0;
  more();
}

function more() {
  at("list").append(...rows.slice(drawn, drawn + PAGE).map(row));
  drawn = Math.min(drawn + PAGE, rows.length);
  at("more").hidden = drawn >= rows.length;
}

/** A foldable row, whose content is made when it is first opened. */
function folded(name, head, content) {
  const made = el("details", name, "", head);
  made.addEventListener("toggle", () => {
    if (made.open && made.children.length === 1) made.append(content());
  });
  return made;
}

function row(one) {
  const best = Math.max(...one.rewards);
  const worst = Math.min(...one.rewards);
  const count = written(one.shown) === 1 ? "1 self-edit" : `${written(one.shown)} self-edits`;
  const range = best === worst ? `reward ${number(best)}` : `rewards ${number(worst)} to ${number(best)}`;
  const head = el("summary", "", one.title, el("span", "", `${count}, ${range}`));
  return folded("problem", head, () => problem(one));
}

function problem(one) {
  const made = el("div");
  const told = known(one.id);
  if (one.title !== one.id) made.append(el("p", "", one.id));
  if (told) made.append(el("pre", "context", told.context));
  const sides = el("div", "sides");
  runs.forEach((run, side) => {
    const edits = one.shown.filter((edit) => edit.side === side);
    if (!edits.length) return;
    edits.sort((a, b) => (b.reward ?? -Infinity) - (a.reward ?? -Infinity));
    const column = el("div", "side");
    if (runs.length > 1) column.append(el("h3", "", run.name));
    column.append(...edits.map((edit) => selfEdit(run, edit, told)));
    sides.append(column);
  });
  made.append(sides);
  return made;
}

function selfEdit(run, edit, told) {
  const step = edit.step === undefined ? "" : `, step ${edit.step + 1}`;
  const head = el("summary", "", `${edit.policy}, ${roundOf(edit)}${step}`);
  const change = `accuracy ${number(edit.accuracy_before)} → ${number(edit.accuracy)}`;
  head.append(el("span", "", `reward ${number(edit.reward)}, ${change}`));
  if (edit.error) head.append(el("span", "error", "invalid"));
  return folded("edit", head, () => opened(run, edit, told));
}

function opened(run, edit, told) {
  const made = el("div");
  if (edit.error) made.append(el("p", "error", edit.error));
  const terms = Object.entries(edit.terms || {}).map(([name, value]) => `${name} ${number(value, 3)}`);
  const facts = [...terms, edit.style ? `style ${edit.style}` : "", edit.tokens ? `${edit.tokens} tokens` : ""];
  made.append(el("p", "", facts.filter((fact) => fact).join(" · ")));
  made.append(edit.text === null ? el("p", "", "No self-edit.") : el("pre", "text", edit.text));
  const before = edit.before === undefined ? {} : run.untouched[edit.before];
  const answers = edit.answers || [];
  if (answers.length) {
    const head = el("tr");
    for (const name of ["question", "right answer", "before", "after"]) head.append(el("th", "", name));
    const body = el("tbody");
    answers.forEach((answer, i) => {
      const question = told?.questions[i];
      const line = el("tr", "", "", el("td", "", question?.text ?? `${i + 1}`));
      line.append(el("td", "", question?.answer ?? "–"));
      line.append(verdict(before.answers?.[i], before.verdicts?.[i]), verdict(answer, edit.verdicts?.[i]));
      body.append(line);
    });
    made.append(el("div", "scroll", "", el("table", "answers", "", el("thead", "", "", head), body)));
  }
  return made;
}

function verdict(answer, right) {
  if (answer === undefined) return el("td", "", "–");
  if (right === undefined || right === null) return el("td", "", String(answer));
  return el("td", right ? "right" : "wrong", `${right ? "✓" : "✗"} ${answer}`);
}

at("filters").addEventListener("submit", (event) => event.preventDefault());
at("filters").addEventListener("change", (event) => {
  // The search's own change comes with the click that leaves it, and would take away what is clicked.
  if (event.target !== at("search")) update();
});
let waiting = 0;
at("search").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(update, 150);
});
at("more").addEventListener("click", more);
if ("IntersectionObserver" in window)
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && more()).observe(at("more"));
update();
