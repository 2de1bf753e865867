"use strict";

/** Rows of images, each row filling the width. Only tiles near the viewport exist, however many the images. */
class Grid {
  static GAP = 12;
  static CAPTION = 34;
  static LEAST_ASPECT = 0.4;
  static MOST_ASPECT = 4;

  #element;
  #makeTile;
  #width = 0;
  #images = [];
  #places = [];
  #rows = [];
  #tiles = new Map();

  /** makeTile: gives the element of an image, which the grid puts in its place. */
  constructor(element, makeTile) {
    this.#element = element;
    this.#makeTile = makeTile;
    new ResizeObserver(() => {
      if (element.clientWidth !== this.#width) this.show(this.#images);
    }).observe(element);
    addEventListener("scroll", () => requestAnimationFrame(() => this.#render()), { passive: true });
    addEventListener("resize", () => this.#render());
    element.addEventListener("keydown", (event) => this.#step(event));
  }

  show(images) {
    this.#images = images;
    this.#layOut();
    this.#tiles.forEach((tile) => tile.remove());
    this.#tiles.clear();
    this.#render();
  }

  focus(index) {
    const { row } = this.#places[index];
    if (!this.#tiles.has(index)) {
      scrollTo({ top: scrollY + this.#element.getBoundingClientRect().top + row.top - innerHeight / 3 });
      this.#render();
    }
    this.#tiles.get(index).focus();
  }

  #layOut() {
    const width = (this.#width = this.#element.clientWidth);
    const height = width < 600 ? 130 : 200;
    this.#places = [];
    this.#rows = [];
    let top = 0;
    let aspects = [];
    const endRow = (imageHeight) => {
      const row = { top, height: imageHeight, first: this.#places.length, end: this.#places.length + aspects.length };
      let left = 0;
      for (const aspect of aspects) {
        this.#places.push({ row, left, width: aspect * imageHeight });
        left += aspect * imageHeight + Grid.GAP;
      }
      this.#rows.push(row);
      top += imageHeight + Grid.CAPTION + Grid.GAP;
      aspects = [];
    };
    for (const image of this.#images) {
      aspects.push(Math.min(Math.max(image.width / image.height, Grid.LEAST_ASPECT), Grid.MOST_ASPECT));
      const filling = (width - Grid.GAP * (aspects.length - 1)) / aspects.reduce((sum, aspect) => sum + aspect);
      if (filling <= height) endRow(filling);
    }
    if (aspects.length) endRow(height);
    this.#element.style.height = `${top}px`;
  }

  #render() {
    const from = -this.#element.getBoundingClientRect().top - innerHeight;
    const to = from + 3 * innerHeight;
    const near = this.#rows.filter(({ top, height }) => top < to && top + height > from);
    const first = near[0]?.first ?? 0;
    const end = near.at(-1)?.end ?? 0;
    for (const [index, tile] of this.#tiles) {
      if (index < first || index >= end) {
        tile.remove();
        this.#tiles.delete(index);
      }
    }
    // In the order of the images, which is that of the Tab key, and without moving a tile that may have the focus.
    let following = null;
    for (let index = end - 1; index >= first; index--) {
      if (!this.#tiles.has(index)) this.#insert(index, following);
      following = this.#tiles.get(index);
    }
  }

  #insert(index, following) {
    const { row, left, width } = this.#places[index];
    const tile = this.#makeTile(this.#images[index], index);
    tile.dataset.index = index;
    tile.style.transform = `translate(${left}px, ${row.top}px)`;
    tile.style.width = `${width}px`;
    tile.style.height = `${row.height + Grid.CAPTION}px`;
    this.#element.insertBefore(tile, following);
    this.#tiles.set(index, tile);
  }

  #step(event) {
    const index = Number(event.target.dataset.index);
    const wanted = this.#neighbor(event.key, index);
    if (wanted === undefined) return;
    event.preventDefault();
    this.focus(Math.min(Math.max(wanted, 0), this.#images.length - 1));
  }

  #neighbor(key, index) {
    const { row, left, width } = this.#places[index];
    const inRow = (other) => {
      if (!other) return index;
      const distance = (place) => Math.abs(place.left + place.width / 2 - left - width / 2);
      const distances = this.#places.slice(other.first, other.end).map(distance);
      return other.first + distances.indexOf(Math.min(...distances));
    };
    switch (key) {
      case "ArrowLeft": return index - 1;
      case "ArrowRight": return index + 1;
      case "ArrowUp": return inRow(this.#rows[this.#rows.indexOf(row) - 1]);
      case "ArrowDown": return inRow(this.#rows[this.#rows.indexOf(row) + 1]);
      case "Home": return 0;
      case "End": return this.#images.length - 1;
    }
  }
}
