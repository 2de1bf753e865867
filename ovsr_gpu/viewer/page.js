"use strict";

const { title, classes, images, failures } = GALLERY;
/** Whether each image shows one region that was found, whose score is its similarity to the text. */
const isSearch = GALLERY.kind === "search";
const [unit, units, none] = isSearch
  ? ["region", "regions", "None of the regions that were found can be shown."]
  : ["image", "images", "This run has no labelled images."];
const chosen = new Set();
let shown = [];
let open = 0;

const byId = (id) => document.getElementById(id);
const grouped = (number) => number.toLocaleString("en");
const count = (number, one, many) => `${grouped(number)} ${number === 1 ? one : many}`;
const percent = (share) => (share > 0 && share < 0.01 ? "<1%" : `${Math.round(100 * share)}%`);

/** A new element; children that are strings become text, whatever they hold. */
function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function swatch(color) {
  const made = element("span", { className: "swatch" });
  made.style.backgroundColor = color;
  return made;
}

function prepare(image) {
  const shares = new Map();
  let area = 0;
  let weighted = 0;
  image.lowest = Infinity;
  for (const [index, score, pixels] of image.regions) {
    shares.set(index, (shares.get(index) ?? 0) + pixels / (image.width * image.height));
    area += pixels;
    weighted += pixels * score;
    image.lowest = Math.min(image.lowest, score);
  }
  image.mean = area ? weighted / area : Infinity;
  image.shares = [...shares].sort(([, one], [, other]) => other - one);
  image.sought = fold(image.name);
  image.base = image.name.slice(image.name.lastIndexOf("/") + 1);
  image.thumbnail = `thumbnails/${image.number}.jpg`;
  image.mask = `masks/${image.number}.png`;
  image.view = image.large ? `views/${image.number}.jpg` : image.thumbnail;
}

/** What is equal for names that differ in case or in how their accents are composed. */
function fold(name) {
  return name.normalize("NFC").toLowerCase();
}

const byClass = ({ shares: [[index, share] = [classes.length, 0]] }) => [index, -share];

/** How to sort, first of all by the first, and what a tile then tells beside its name. */
const SORTS = isSearch ? {
  rank: { text: "most similar first", key: ({ number }) => [number], note: similarity },
  name: { text: "by name", key: () => [], note: similarity },
  class: { text: "by class", key: byClass, note: similarity },
} : {
  lowest: {
    text: "least certain region first",
    key: (image) => [image.lowest],
    note: (image) => certainty(image.lowest),
  },
  mean: {
    text: "least certain on average first",
    key: (image) => [image.mean],
    note: (image) => certainty(image.mean),
  },
  name: { text: "by name", key: () => [], note: (image) => certainty(image.lowest) },
  class: {
    text: "by largest class",
    key: byClass,
    note: ({ shares: [main] }) => (main ? classes[main[0]].name : ""),
  },
};

function similarity({ regions: [[, score]] }) {
  return score.toFixed(3);
}

function certainty(score) {
  return score === Infinity ? "" : percent(score);
}

function compare(one, other) {
  for (const [position, value] of one.entries()) {
    if (value !== other[position]) return value < other[position] ? -1 : 1;
  }
  return 0;
}

function makeTile(image, index) {
  const image = (className, src) => element("img", { className, src, alt: "", decoding: "async" });
  const bar = element("span", { className: "bar" });
  for (const [kind, share] of image.shares) {
    const part = swatch(classes[kind].color);
    part.style.flexGrow = share;
    bar.append(part);
  }
  const frame = element("span", { className: "frame" }, image("photo", image.thumbnail), image("mask", image.mask));
  const note = element("bdi", { className: "note" }, SORTS[byId("sort").value].note(image));
  const main = isSearch ? classes[image.regions[0][0]].name : image.base;
  const caption = element("span", { className: "caption" }, element("bdi", {}, main), note);
  const tile = element("button", { type: "button", className: "tile", title: image.name }, frame, bar, caption);
  tile.addEventListener("click", () => view(index));
  return tile;
}

function update() {
  const words = fold(byId("search").value).split(/\s+/);
  const { key } = SORTS[byId("sort").value];
  shown = images
    .filter(({ sought }) => words.every((word) => sought.includes(word)))
    .filter(({ shares }) => !chosen.size || shares.some(([index]) => chosen.has(index)))
    .map((image) => ({ image, key: key(image) }))
    .sort((one, other) => compare(one.key, other.key))
    .map(({ image }) => image);
  byId("shown").textContent = `${grouped(shown.length)} of ${count(images.length, unit, units)}`;
  byId("empty").hidden = shown.length > 0;
  byId("empty").textContent = images.length ? `No ${unit} matches.` : none;
  byId("clear").disabled = !chosen.size;
  if (byId("columns").getBoundingClientRect().top < 0) byId("columns").scrollIntoView();
  grid.show(shown);
}

/** Show an image large; after the last comes the first. */
function view(index) {
  open = (index + shown.length) % shown.length;
  const image = shown[open];
  const { width, height, regions } = image;
  byId("view").src = image.view;
  byId("mask").src = image.mask;
  byId("image").style.setProperty("--aspect", width / height);
  byId("name").textContent = image.name;
  byId("place").textContent = `${grouped(open + 1)} of ${grouped(shown.length)}`;
  byId("facts").textContent = `${width} × ${height}, ${count(regions.length, "region", "regions")}`;
  const largestFirst = [...regions].sort(([, , one], [, , other]) => other - one);
  byId("regions").replaceChildren(
    ...largestFirst.map(([kind, score, pixels]) => {
      const { name, color } = classes[kind];
      const label = element("span", { className: "class" }, swatch(color), element("bdi", {}, name));
      const told = isSearch
        ? [score.toFixed(4)]
        : [element("meter", { value: score, title: score.toFixed(4) }), percent(score)];
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, label),
        element("td", {}, ...told),
        element("td", {}, percent(pixels / (width * height))),
      );
    }),
  );
  if (!byId("viewer").open) byId("viewer").showModal();
}

function fillLegend() {
  const inImages = classes.map(() => 0);
  const inRegions = classes.map(() => 0);
  for (const { shares, regions } of images) {
    for (const [index] of shares) inImages[index]++;
    for (const [index] of regions) inRegions[index]++;
  }
  const rows = classes.map(({ name, color }, index) => {
    const box = element("input", { type: "checkbox", className: "swatch", autocomplete: "off" });
    box.style.backgroundColor = color;
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(index);
      else chosen.delete(index);
      update();
    });
    const numbers = [inImages, inRegions].map((counts) => element("td", {}, grouped(counts[index])));
    const label = element("label", { className: "class" }, box, element("bdi", {}, name));
    const className = inImages[index] ? "" : "unused";
    return element("tr", { className }, element("th", { scope: "row" }, label), ...numbers);
  });
  document.querySelector("#legend tbody").append(...rows);
  byId("clear").addEventListener("click", () => {
    document.querySelectorAll("#legend input").forEach((box) => { box.checked = false; });
    chosen.clear();
    update();
  });
  const wide = matchMedia("(min-width: 56rem)");
  const unfold = () => { byId("legend").open = wide.matches; };
  wide.addEventListener("change", unfold);
  unfold();
}

function listFailures() {
  const section = byId("failures");
  section.hidden = !failures.length;
  section.querySelector("summary").textContent = `${count(failures.length, "image", "images")} failed`;
  const rows = failures.map(({ path, stage, reason }) =>
    element("li", {}, element("bdi", {}, path), element("span", {}, stage), element("bdi", {}, reason)),
  );
  section.querySelector("ul").append(...rows);
  section.open = !images.length;
}

function step(event) {
  if (event.target.type === "range") return;
  if (event.key === "ArrowLeft") view(open - 1);
  if (event.key === "ArrowRight") view(open + 1);
}

function setOpacity({ target }) {
  document.querySelectorAll(".opacity").forEach((slider) => { slider.value = target.value; });
  document.documentElement.style.setProperty("--opacity", target.value / 100);
}

const byName = new Intl.Collator("en", { numeric: true });
images.forEach(prepare);
images.sort((one, other) => byName.compare(one.name, other.name)); // sorting is stable: among equals this order stays
document.title = title;
document.body.classList.toggle("search", isSearch);
byId("title").textContent = title;
byId("totals").textContent = [
  count(new Set(images.map(({ name }) => name)).size, "image", "images"),
  count(images.reduce((sum, { regions }) => sum + regions.length, 0), "region", "regions"),
  count(classes.length - 1, "class", "classes"),
].join(", ");
for (const [value, { text }] of Object.entries(SORTS)) byId("sort").append(element("option", { value }, text));
if (isSearch) {
  byId("score").textContent = "similarity";
  setOpacity({ target: { value: 75 } }); // what was not found is to step back
}
const grid = new Grid(byId("grid"), makeTile);
fillLegend();
listFailures();
update();

byId("search").addEventListener("input", update);
byId("sort").addEventListener("change", update);
document.querySelectorAll(".opacity").forEach((slider) => slider.addEventListener("input", setOpacity));
byId("previous").addEventListener("click", () => view(open - 1));
byId("next").addEventListener("click", () => view(open + 1));
byId("close").addEventListener("click", () => byId("viewer").close());
byId("viewer").addEventListener("keydown", step);
byId("viewer").addEventListener("click", ({ target }) => { if (target === byId("viewer")) byId("viewer").close(); });
byId("viewer").addEventListener("close", () => grid.focus(open));
