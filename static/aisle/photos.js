// The photos of a product: choose, take, drop or paste them; make them smaller, see, order and remove them before they are sent.
"use strict";

(() => {
  const READ_TYPES = ["image/jpeg", "image/png", "image/webp", "image/heic", "image/heif"];
  const HEIC_NAME = /\.(heic|heif)$/i; // where the system knows no type for it
  const SIDE = 1600; // the long side of the copy that the server keeps
  const SMALL_FILE = 600_000; // bytes; encoding such a file again gains little

  const boxOf = (element) => element.closest("[data-photo]");
  const inputOf = (box) => $(".photo-input", box);
  const tilesOf = (box) => $$(".photo-strip > .photo-tile", box);
  const selectedOf = (box) => $(".photo-strip [aria-pressed='true']", box)?.closest(".photo-tile");

  // The strip's tiles are the order. Those of photos that are not uploaded yet have a file, those of others an address.
  const files = new WeakMap();
  // By form field: the tiles as the server sent them, and the work on files that is still going on.
  const asSent = new WeakMap();
  const unfinished = new WeakMap();

  // The name of a format that the server refuses; none where it reads it.
  function refusedFormat(file) {
    if (READ_TYPES.includes(file.type) || HEIC_NAME.test(file.name)) return "";
    const ending = file.name.includes(".") ? file.name.split(".").pop() : file.type.split("/").pop();
    return (ending || "?").toUpperCase();
  }

  // A smaller JPEG of the photo in sRGB and turned upright, or the file itself where that gains nothing or fails.
  async function shrink(file, limit) {
    const mayBeTransparent = ["image/png", "image/webp"].includes(file.type);
    if (file.size <= (mayBeTransparent ? limit : SMALL_FILE)) return file;
    try {
      const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
      const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(bitmap.width * scale));
      canvas.height = Math.max(1, Math.round(bitmap.height * scale));
      const context = canvas.getContext("2d");
      context.fillStyle = "#fff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      bitmap.close();
      const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.88));
      if (!blob || blob.size >= file.size) return file;
      return new File([blob], file.name.replace(/\.\w+$/, "") + ".jpg", { type: "image/jpeg" });
    } catch {
      return file; // a format that this browser can't read; the server may
    }
  }

  function fail(box, problems) {
    const words = problems.join(" ");
    const error = $("#id_photo_error", box);
    error.hidden = !words;
    box.classList.toggle("field-wrong", Boolean(words));
    $("[data-photo-error]", error).textContent = words;
    return words;
  }

  // Put a tile's file, or none, into the tile and its thumbnail.
  function setFile(tile, file) {
    const image = $(".thumb", tile);
    if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
    files.set(tile, file);
    image.onerror = () => { image.hidden = true; $(".thumb-none", tile).hidden = false; };
    image.onload = () => { image.hidden = false; $(".thumb-none", tile).hidden = true; };
    image.src = URL.createObjectURL(file);
  }

  function makeTile(box, file) {
    const tile = $("[data-photo-template]", box).content.firstElementChild.cloneNode(true);
    setFile(tile, file);
    return tile;
  }

  // Show the order: the input's files, the names of places, the large photo, and what can be done with it.
  function refresh(box) {
    const tiles = tilesOf(box);
    const chosen = tiles.map((tile) => files.get(tile)).filter(Boolean);
    const transfer = new DataTransfer();
    chosen.forEach((file) => transfer.items.add(file));
    inputOf(box).files = transfer.files;
    const selected = selectedOf(box) ?? tiles[0];
    tiles.forEach((tile, place) => {
      const button = $("[data-photo-select]", tile);
      button.setAttribute("aria-pressed", String(tile === selected));
      button.setAttribute("aria-label", placeName(box, place, tiles.length));
    });
    showLarge(box, selected);
    const place = tiles.indexOf(selected);
    $("[data-photo-tools]", box).hidden = !tiles.length;
    $("[data-photo-add]", box).hidden = !tiles.length || tiles.length >= Number(box.dataset.most);
    $(".photo-place", box).textContent = placeName(box, place, tiles.length);
    for (const button of $$("[data-photo-move]", box)) {
      const isUseless = button.dataset.photoMove === "1" ? place === tiles.length - 1 : place === 0;
      button.setAttribute("aria-disabled", String(isUseless)); // and not disabled, which would lose the focus
    }
    box.classList.toggle("photo-full", tiles.length > 0);
    box.classList.toggle("photo-single", tiles.length === 1);
  }

  function placeName(box, place, count) {
    if (count === 1) return box.dataset.wordsMain;
    return place === 0 ? fill(box.dataset.wordsMainOf, { count }) : fill(box.dataset.wordsPlace, { place: place + 1, count });
  }

  function showLarge(box, tile) {
    const preview = $(".photo-preview", box);
    const name = $(".photo-name", box);
    preview.hidden = !tile;
    name.hidden = true;
    preview.onerror = null;
    if (!tile) return preview.removeAttribute("src");
    const file = files.get(tile);
    if (file) preview.onerror = () => { preview.hidden = true; name.hidden = false; name.textContent = file.name; };
    preview.alt = $("[data-photo-select]", tile).getAttribute("aria-label");
    preview.src = file ? $(".thumb", tile).src : tile.dataset.large;
  }

  // Tell the form that its photos have changed: what keeps unsent forms listens.
  const changed = (box) => inputOf(box).dispatchEvent(new Event("input", { bubbles: true }));

  // Add files behind the photos that are there; refuse those that the server would refuse.
  function add(box, list) {
    const all = [...list];
    const problems = [];
    const named = (file, message) => (all.length > 1 ? fill(box.dataset.wordsNamed, { name: file.name, message }) : message);
    const good = all.filter((file) => {
      const format = refusedFormat(file);
      if (format) problems.push(named(file, fill(box.dataset.wordsRefused, { format })));
      return !format;
    });
    const room = Math.max(0, Number(box.dataset.most) - tilesOf(box).length);
    if (good.length > room) problems.push(fill(box.dataset.wordsTooMany, { count: good.length - room }));
    const tiles = good.slice(0, room).map((file) => makeTile(box, file));
    $("[data-photo-strip]", box).append(...tiles);
    refresh(box);
    const words = fail(box, problems);
    announce(words || addedWords(box, tiles));
    const work = (unfinished.get(box) ?? Promise.resolve()).then(() => shrinkTiles(box, tiles, problems));
    unfinished.set(box, work);
    work.then(() => { if (unfinished.get(box) === work) unfinished.delete(box); });
  }

  function addedWords(box, tiles) {
    const count = tilesOf(box).length;
    if (tiles.length === 1) return fill(box.dataset.wordsAdded, { name: files.get(tiles[0]).name, count });
    return fill(box.dataset.wordsAddedMany, { added: tiles.length, count });
  }

  // One after the other: a phone has no room for ten decoded photos.
  async function shrinkTiles(box, tiles, problems) {
    const limit = Number(box.dataset.limit);
    for (const tile of tiles) {
      const file = files.get(tile);
      const smaller = await shrink(file, limit);
      if (!tile.isConnected) continue; // it was removed, or the form was sent
      if (smaller !== file) {
        setFile(tile, smaller);
        refresh(box);
      }
      const words = fill(box.dataset.wordsLarge, { size: Math.ceil(smaller.size / 1e6) });
      if (smaller.size > limit) problems.push(tiles.length > 1 ? fill(box.dataset.wordsNamed, { name: file.name, message: words }) : words);
    }
    const size = [...inputOf(box).files].reduce((sum, file) => sum + file.size, 0);
    if (size > Number(box.dataset.requestLimit)) problems.push(fill(box.dataset.wordsLargeTogether, { size: Math.ceil(size / 1e6) }));
    if (problems.length) announce(fail(box, problems));
    changed(box);
  }

  function select(box, tile) {
    tilesOf(box).forEach((each) => $("[data-photo-select]", each).setAttribute("aria-pressed", String(each === tile)));
    refresh(box);
  }

  function move(box, button) {
    if (button.getAttribute("aria-disabled") === "true") return;
    const tiles = tilesOf(box);
    const tile = selectedOf(box);
    const to = button.dataset.photoMove === "first" ? 0 : tiles.indexOf(tile) + Number(button.dataset.photoMove);
    const neighbour = tiles[to];
    if (to < tiles.indexOf(tile)) neighbour.before(tile); else neighbour.after(tile);
    refresh(box);
    announce(to === 0 ? box.dataset.wordsIsMain : placeName(box, to, tiles.length));
    changed(box);
  }

  function remove(box) {
    const tile = selectedOf(box);
    const next = tile.nextElementSibling ?? tile.previousElementSibling;
    if (!files.has(tile)) {
      const removed = Object.assign(document.createElement("input"), { type: "hidden", name: "remove_photos" });
      removed.value = $("[name=photos]", tile).value;
      box.append(removed);
    }
    tile.remove();
    if (next) select(box, next); else refresh(box);
    fail(box, []);
    if (!next) inputOf(box).focus(); // otherwise the focus stays on the button
    announce(fill(box.dataset.wordsRemoved, { count: tilesOf(box).length }));
    changed(box);
  }

  function openCamera(box) {
    const camera = Object.assign(document.createElement("input"), { type: "file", accept: "image/*" });
    camera.setAttribute("capture", "environment");
    camera.addEventListener("change", () => add(box, camera.files));
    camera.click();
  }

  function start(root) {
    for (const box of $$("[data-photo]", root)) {
      if (asSent.has(box)) continue;
      asSent.set(box, tilesOf(box));
      // Files that the browser has kept through a reload
      if (inputOf(box).files.length) add(box, inputOf(box).files); else refresh(box);
    }
  }

  // Before all others that listen: to them, the input has all files and not only those that were chosen just now.
  document.addEventListener("change", (event) => {
    if (!event.target.matches(".photo-input")) return;
    const box = boxOf(event.target);
    const chosen = [...event.target.files];
    if (chosen.length) add(box, chosen); else refresh(box);
  }, true);
  document.addEventListener("reset", (event) => {
    const box = $("[data-photo]", event.target);
    if (!box) return;
    $("[data-photo-strip]", box).replaceChildren(...asSent.get(box));
    $$(":scope > [name=remove_photos]", box).forEach((input) => input.remove());
    fail(box, []);
    setTimeout(() => refresh(box)); // after the form has been reset
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      const box = $("[data-photo]");
      if (!box || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      box.classList.toggle("photo-over", kind === "dragover");
      if (kind === "drop") add(box, event.dataTransfer.files);
    });
  }
  document.addEventListener("paste", (event) => {
    const box = $("[data-photo]");
    if (!box || !event.clipboardData?.files.length) return;
    event.preventDefault();
    add(box, event.clipboardData.files);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-photo] button");
    if (!button) return;
    const box = boxOf(button);
    if (button.matches("[data-photo-select]")) select(box, button.closest(".photo-tile"));
    if (button.matches("[data-photo-move]")) move(box, button);
    if (button.matches("[data-photo-remove]")) remove(box);
    if (button.matches("[data-photo-add]")) inputOf(box).click();
    if (button.matches("[data-photo-camera]")) openCamera(box);
  });
  // A form that is sent while its photos are made smaller waits for them: the large ones would take far longer.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const work = unfinished.get($("[data-photo]", form));
    if (!work) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const { submitter } = event;
    work.then(() => {
      idle(form);
      form.requestSubmit(submitter);
    });
  }, true);
  document.addEventListener("htmx:afterSwap", () => start(document));
  start(document);

  // The photos of a product's page: a small one shows its large copy in place

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-photo-show]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const card = link.closest(".product");
    const large = $(".product-photo", card);
    if (large.offsetWidth < 2 * link.offsetWidth) return; // on a phone it is small, too: the link opens the photo
    event.preventDefault();
    large.href = $("img", large).src = link.href;
    $("img", large).alt = $("img", link).alt;
    for (const each of $$("[data-photo-show]", card)) {
      if (each === link) each.setAttribute("aria-current", "true"); else each.removeAttribute("aria-current");
    }
  });
})();
