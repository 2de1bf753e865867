"use strict";

const { title, classes, images, failures } = GALLERY;
/** In search results each image shows one region, whose score is its similarity to the text. */
const isSearch = GALLERY.kind === "search";
const [singular, plural, emptyMessage] = isSearch
  ? ["region", "regions", "None of the regions found can be shown."]
  : ["image", "images", "This run has no labelled images."];
const selectedClasses = new Set();
let visibleImages = [];
let openIndex = 0;

const byId = (id) => document.getElementById(id);
const formatInteger = (number) => number.toLocaleString("en");
const formatCount = (number, singular, plural) => `${formatInteger(number)} ${number === 1 ? singular : plural}`;
const formatPercent = (fraction) => (fraction > 0 && fraction < 0.01 ? "<1%" : `${Math.round(100 * fraction)}%`);

/** Create an element. String children become text nodes, so markup in them has no effect. */
function createElement(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function createSwatch(color) {
  const swatch = createElement("span", { className: "swatch" });
  swatch.style.backgroundColor = color;
  return swatch;
}

/** Add to an image what sorting, searching and drawing need. */
function prepareImage(image) {
  const fractions = new Map();
  let totalArea = 0;
  let weightedScore = 0;
  image.minScore = Infinity;
  for (const [classIndex, score, area] of image.regions) {
    fractions.set(classIndex, (fractions.get(classIndex) ?? 0) + area / (image.width * image.height));
    totalArea += area;
    weightedScore += area * score;
    image.minScore = Math.min(image.minScore, score);
  }
  image.meanScore = totalArea ? weightedScore / totalArea : Infinity;
  image.classFractions = [...fractions].sort(([, a], [, b]) => b - a);
  image.searchText = normalizeText(image.name);
  image.baseName = image.name.slice(image.name.lastIndexOf("/") + 1);
  image.thumbnail = `thumbnails/${image.number}.jpg`;
  image.mask = `masks/${image.number}.png`;
  image.view = image.has_view ? `views/${image.number}.jpg` : image.thumbnail;
}

/** Return the same text for names that differ only in case or in the composition of accents. */
function normalizeText(name) {
  return name.normalize("NFC").toLowerCase();
}

const byClass = ({ classFractions: [[classIndex, fraction] = [classes.length, 0]] }) => [classIndex, -fraction];

/** Sort orders, the first one is the default. `note` is the text beside the name of a tile. */
const SORT_ORDERS = isSearch ? {
  rank: { text: "most similar first", key: ({ number }) => [number], note: similarityNote },
  name: { text: "by name", key: () => [], note: similarityNote },
  class: { text: "by class", key: byClass, note: similarityNote },
} : {
  lowest: {
    text: "least certain region first",
    key: (image) => [image.minScore],
    note: (image) => scoreNote(image.minScore),
  },
  mean: {
    text: "least certain on average first",
    key: (image) => [image.meanScore],
    note: (image) => scoreNote(image.meanScore),
  },
  name: { text: "by name", key: () => [], note: (image) => scoreNote(image.minScore) },
  class: {
    text: "by largest class",
    key: byClass,
    note: ({ classFractions: [largest] }) => (largest ? classes[largest[0]].name : ""),
  },
};

function similarityNote({ regions: [[, score]] }) {
  return score.toFixed(3);
}

function scoreNote(score) {
  return score === Infinity ? "" : formatPercent(score);
}

/** Compare two sort keys, arrays of the same length, lexicographically. */
function compareKeys(a, b) {
  for (const [position, value] of a.entries()) {
    if (value !== b[position]) return value < b[position] ? -1 : 1;
  }
  return 0;
}

function createTile(image, index) {
  const createLayer = (className, src) => createElement("img", { className, src, alt: "", decoding: "async" });
  const bar = createElement("span", { className: "bar" });
  for (const [classIndex, fraction] of image.classFractions) {
    const segment = createSwatch(classes[classIndex].color);
    segment.style.flexGrow = fraction;
    bar.append(segment);
  }
  const layers = [createLayer("photo", image.thumbnail), createLayer("mask", image.mask)];
  const frame = createElement("span", { className: "frame" }, ...layers);
  const note = createElement("bdi", { className: "note" }, SORT_ORDERS[byId("sort").value].note(image));
  const label = isSearch ? classes[image.regions[0][0]].name : image.baseName;
  const caption = createElement("span", { className: "caption" }, createElement("bdi", {}, label), note);
  const properties = { type: "button", className: "tile", title: image.name };
  const tile = createElement("button", properties, frame, bar, caption);
  tile.addEventListener("click", () => openViewer(index));
  return tile;
}

/** Apply search text, selected classes and sort order. */
function update() {
  const searchTerms = normalizeText(byId("search").value).split(/\s+/);
  const { key } = SORT_ORDERS[byId("sort").value];
  visibleImages = images
    .filter(({ searchText }) => searchTerms.every((term) => searchText.includes(term)))
    .filter(({ classFractions }) =>
      !selectedClasses.size || classFractions.some(([classIndex]) => selectedClasses.has(classIndex)))
    .map((image) => ({ image, key: key(image) }))
    .sort((a, b) => compareKeys(a.key, b.key))
    .map(({ image }) => image);
  const total = formatCount(images.length, singular, plural);
  byId("result-count").textContent = `${formatInteger(visibleImages.length)} of ${total}`;
  byId("empty").hidden = visibleImages.length > 0;
  byId("empty").textContent = images.length ? `No ${singular} matches.` : emptyMessage;
  byId("clear").disabled = !selectedClasses.size;
  if (byId("columns").getBoundingClientRect().top < 0) byId("columns").scrollIntoView();
  grid.show(visibleImages);
}

/** Open an image in the viewer; the index wraps around at both ends. */
function openViewer(index) {
  openIndex = (index + visibleImages.length) % visibleImages.length;
  const image = visibleImages[openIndex];
  const { width, height, regions } = image;
  byId("view").src = image.view;
  byId("mask").src = image.mask;
  byId("image").style.setProperty("--aspect", width / height);
  byId("name").textContent = image.name;
  byId("position").textContent = `${formatInteger(openIndex + 1)} of ${formatInteger(visibleImages.length)}`;
  byId("facts").textContent = `${width} × ${height}, ${formatCount(regions.length, "region", "regions")}`;
  const largestFirst = [...regions].sort(([, , a], [, , b]) => b - a);
  byId("regions").replaceChildren(
    ...largestFirst.map(([classIndex, score, area]) => {
      const { name, color } = classes[classIndex];
      const label = createElement("span", { className: "class" }, createSwatch(color), createElement("bdi", {}, name));
      const scoreContent = isSearch
        ? [score.toFixed(4)]
        : [createElement("meter", { value: score, title: score.toFixed(4) }), formatPercent(score)];
      return createElement(
        "tr",
        {},
        createElement("th", { scope: "row" }, label),
        createElement("td", {}, ...scoreContent),
        createElement("td", {}, formatPercent(area / (width * height))),
      );
    }),
  );
  if (!byId("viewer").open) byId("viewer").showModal();
}

function fillLegend() {
  const imageCounts = classes.map(() => 0);
  const regionCounts = classes.map(() => 0);
  for (const { classFractions, regions } of images) {
    for (const [classIndex] of classFractions) imageCounts[classIndex]++;
    for (const [classIndex] of regions) regionCounts[classIndex]++;
  }
  const rows = classes.map(({ name, color }, index) => {
    const checkbox = createElement("input", { type: "checkbox", className: "swatch", autocomplete: "off" });
    checkbox.style.backgroundColor = color;
    checkbox.addEventListener("change", () => {
      if (checkbox.checked) selectedClasses.add(index);
      else selectedClasses.delete(index);
      update();
    });
    const cells = [imageCounts, regionCounts].map((counts) => createElement("td", {}, formatInteger(counts[index])));
    const label = createElement("label", { className: "class" }, checkbox, createElement("bdi", {}, name));
    const className = imageCounts[index] ? "" : "unused";
    return createElement("tr", { className }, createElement("th", { scope: "row" }, label), ...cells);
  });
  document.querySelector("#legend tbody").append(...rows);
  byId("clear").addEventListener("click", () => {
    document.querySelectorAll("#legend input").forEach((checkbox) => { checkbox.checked = false; });
    selectedClasses.clear();
    update();
  });
  const isWide = matchMedia("(min-width: 56rem)");
  const openIfWide = () => { byId("legend").open = isWide.matches; };
  isWide.addEventListener("change", openIfWide);
  openIfWide();
}

function listFailures() {
  const section = byId("failures");
  section.hidden = !failures.length;
  section.querySelector("summary").textContent = `${formatCount(failures.length, "image", "images")} failed`;
  const rows = failures.map(({ path, stage, reason }) =>
    createElement(
      "li",
      {},
      createElement("bdi", {}, path),
      createElement("span", {}, stage),
      createElement("bdi", {}, reason),
    ),
  );
  section.querySelector("ul").append(...rows);
  section.open = !images.length;
}

function handleViewerKey(event) {
  if (event.target.type === "range") return;
  if (event.key === "ArrowLeft") openViewer(openIndex - 1);
  if (event.key === "ArrowRight") openViewer(openIndex + 1);
}

function setOpacity({ target }) {
  document.querySelectorAll(".opacity").forEach((slider) => { slider.value = target.value; });
  document.documentElement.style.setProperty("--opacity", target.value / 100);
}

const nameOrder = new Intl.Collator("en", { numeric: true });
images.forEach(prepareImage);
images.sort((a, b) => nameOrder.compare(a.name, b.name)); // later sorts are stable and keep this order among equals
document.title = title;
document.body.classList.toggle("search", isSearch);
byId("title").textContent = title;
byId("totals").textContent = [
  formatCount(new Set(images.map(({ name }) => name)).size, "image", "images"),
  formatCount(images.reduce((sum, { regions }) => sum + regions.length, 0), "region", "regions"),
  formatCount(classes.length - 1, "class", "classes"),
].join(", ");
for (const [value, { text }] of Object.entries(SORT_ORDERS)) {
  byId("sort").append(createElement("option", { value }, text));
}
if (isSearch) {
  byId("score").textContent = "similarity";
  setOpacity({ target: { value: 75 } }); // dims everything except the region found
}
const grid = new Grid(byId("grid"), createTile);
fillLegend();
listFailures();
update();

byId("search").addEventListener("input", update);
byId("sort").addEventListener("change", update);
document.querySelectorAll(".opacity").forEach((slider) => slider.addEventListener("input", setOpacity));
byId("previous").addEventListener("click", () => openViewer(openIndex - 1));
byId("next").addEventListener("click", () => openViewer(openIndex + 1));
byId("close").addEventListener("click", () => byId("viewer").close());
byId("viewer").addEventListener("keydown", handleViewerKey);
byId("viewer").addEventListener("click", ({ target }) => { if (target === byId("viewer")) byId("viewer").close(); });
byId("viewer").addEventListener("close", () => grid.focus(openIndex));
