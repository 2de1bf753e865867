"use strict";

/** Rows of image tiles, each row as wide as the container. Only tiles near the viewport are in the document. */
class Grid {
  static GAP = 12;
  static CAPTION_HEIGHT = 34;
  static MIN_ASPECT = 0.4;
  static MAX_ASPECT = 4;

  #container;
  #createTile;
  #width = 0;
  #images = [];
  #positions = [];
  #rows = [];
  #tiles = new Map();

  /** createTile(image, index) returns the element of an image; the grid sets its position and size. */
  constructor(container, createTile) {
    this.#container = container;
    this.#createTile = createTile;
    new ResizeObserver(() => {
      if (container.clientWidth !== this.#width) this.show(this.#images);
    }).observe(container);
    addEventListener("scroll", () => requestAnimationFrame(() => this.#render()), { passive: true });
    addEventListener("resize", () => this.#render());
    container.addEventListener("keydown", (event) => this.#handleKey(event));
  }

  show(images) {
    this.#images = images;
    this.#computeLayout();
    this.#tiles.forEach((tile) => tile.remove());
    this.#tiles.clear();
    this.#render();
  }

  focus(index) {
    const { row } = this.#positions[index];
    if (!this.#tiles.has(index)) {
      scrollTo({ top: scrollY + this.#container.getBoundingClientRect().top + row.top - innerHeight / 3 });
      this.#render();
    }
    this.#tiles.get(index).focus();
  }

  #computeLayout() {
    const width = (this.#width = this.#container.clientWidth);
    const maxHeight = width < 600 ? 130 : 200;
    this.#positions = [];
    this.#rows = [];
    let top = 0;
    let aspects = [];
    const addRow = (height) => {
      const start = this.#positions.length;
      const row = { top, height, start, end: start + aspects.length };
      let left = 0;
      for (const aspect of aspects) {
        this.#positions.push({ row, left, width: aspect * height });
        left += aspect * height + Grid.GAP;
      }
      this.#rows.push(row);
      top += height + Grid.CAPTION_HEIGHT + Grid.GAP;
      aspects = [];
    };
    for (const image of this.#images) {
      aspects.push(Math.min(Math.max(image.width / image.height, Grid.MIN_ASPECT), Grid.MAX_ASPECT));
      const aspectSum = aspects.reduce((sum, aspect) => sum + aspect);
      const heightToFillRow = (width - Grid.GAP * (aspects.length - 1)) / aspectSum;
      if (heightToFillRow <= maxHeight) addRow(heightToFillRow);
    }
    if (aspects.length) addRow(maxHeight);
    this.#container.style.height = `${top}px`;
  }

  #render() {
    const minTop = -this.#container.getBoundingClientRect().top - innerHeight;
    const maxTop = minTop + 3 * innerHeight;
    const nearbyRows = this.#rows.filter(({ top, height }) => top < maxTop && top + height > minTop);
    const start = nearbyRows[0]?.start ?? 0;
    const end = nearbyRows.at(-1)?.end ?? 0;
    for (const [index, tile] of this.#tiles) {
      if (index < start || index >= end) {
        tile.remove();
        this.#tiles.delete(index);
      }
    }
    // The document order is the order of the Tab key. Moving an existing tile would lose its focus, so none is moved.
    let nextTile = null;
    for (let index = end - 1; index >= start; index--) {
      if (!this.#tiles.has(index)) this.#insert(index, nextTile);
      nextTile = this.#tiles.get(index);
    }
  }

  #insert(index, nextTile) {
    const { row, left, width } = this.#positions[index];
    const tile = this.#createTile(this.#images[index], index);
    tile.dataset.index = index;
    tile.style.transform = `translate(${left}px, ${row.top}px)`;
    tile.style.width = `${width}px`;
    tile.style.height = `${row.height + Grid.CAPTION_HEIGHT}px`;
    this.#container.insertBefore(tile, nextTile);
    this.#tiles.set(index, tile);
  }

  #handleKey(event) {
    const index = Number(event.target.dataset.index);
    const targetIndex = this.#indexAfterKey(event.key, index);
    if (targetIndex === undefined) return;
    event.preventDefault();
    this.focus(Math.min(Math.max(targetIndex, 0), this.#images.length - 1));
  }

  #indexAfterKey(key, index) {
    const { row, left, width } = this.#positions[index];
    const nearestInRow = (otherRow) => {
      if (!otherRow) return index;
      const distance = (position) => Math.abs(position.left + position.width / 2 - left - width / 2);
      const distances = this.#positions.slice(otherRow.start, otherRow.end).map(distance);
      return otherRow.start + distances.indexOf(Math.min(...distances));
    };
    switch (key) {
      case "ArrowLeft": return index - 1;
      case "ArrowRight": return index + 1;
      case "ArrowUp": return nearestInRow(this.#rows[this.#rows.indexOf(row) - 1]);
      case "ArrowDown": return nearestInRow(this.#rows[this.#rows.indexOf(row) + 1]);
      case "Home": return 0;
      case "End": return this.#images.length - 1;
    }
  }
}
