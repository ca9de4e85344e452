// A mask painted over a picture: what is painted becomes transparent, which is what the model may change.
(() => {
  "use strict";
  if (!globalThis.Pictures) return;
  const MAX_SIDE = 2048;
  const STEP = 1 / 40;

  class Mask {
    constructor(board, picture, help) {
      this.board = board;
      this.picture = picture;
      this.help = help;
      this.strokes = [];
      this.size = 0.08;
      this.at = [0.5, 0.5];
      this.pen = null;
      this.listen();
    }

    /* Begin with the picture in `blob`. */
    async open(blob) {
      const drawn = await Pictures.drawn(blob, MAX_SIDE);
      for (const canvas of [this.board, this.picture]) {
        canvas.width = drawn.width;
        canvas.height = drawn.height;
      }
      this.picture.getContext("2d").drawImage(drawn, 0, 0);
      this.strokes = [];
      this.draw();
    }

    get isPainted() { return this.strokes.length > 0; }
    undo() { this.strokes.pop(); this.draw(); }
    clear() { this.strokes = []; this.draw(); }

    /* The picture, and the mask or null: PNGs of the same size. */
    async files() {
      const image = await Pictures.asBlob(this.picture);
      if (!this.isPainted) return { image, mask: null };
      const canvas = Pictures.canvasOf(this.board.width, this.board.height);
      const paint = canvas.getContext("2d");
      paint.fillStyle = "black";
      paint.fillRect(0, 0, canvas.width, canvas.height);
      paint.globalCompositeOperation = "destination-out";
      this.paintStrokes(paint, "black");
      return { image, mask: await Pictures.asBlob(canvas) };
    }

    /* ---------------------------------------------------------------- Painting */
    paintStrokes(paint, colour) {
      const { width, height } = this.board;
      paint.strokeStyle = paint.fillStyle = colour;
      paint.lineCap = paint.lineJoin = "round";
      for (const { size, points } of this.strokes) {
        paint.lineWidth = size * Math.max(width, height);
        paint.beginPath();
        for (const [x, y] of points) paint.lineTo(x * width, y * height);
        if (points.length === 1) paint.lineTo(points[0][0] * width + 0.01, points[0][1] * height);
        paint.stroke();
      }
    }

    draw(shows_pen = false) {
      const paint = this.board.getContext("2d");
      const { width, height } = this.board;
      paint.clearRect(0, 0, width, height);
      this.paintStrokes(paint, "rgb(214 69 30)");
      if (shows_pen) {
        paint.lineWidth = Math.max(width, height) / 250;
        paint.strokeStyle = "white";
        paint.beginPath();
        paint.arc(this.at[0] * width, this.at[1] * height, (this.size * Math.max(width, height)) / 2, 0, 7);
        paint.stroke();
      }
      this.help(this.isPainted);
    }

    /* ---------------------------------------------------------------- Pointer and keys */
    listen() {
      const { board } = this;
      const point = (event) => {
        const box = board.getBoundingClientRect();
        return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      };
      board.addEventListener("pointerdown", (event) => {
        board.setPointerCapture(event.pointerId);
        this.pen = { size: this.size, points: [point(event)] };
        this.strokes.push(this.pen);
        this.draw();
      });
      board.addEventListener("pointermove", (event) => {
        if (!this.pen) return;
        this.pen.points.push(point(event));
        this.draw();
      });
      for (const name of ["pointerup", "pointercancel"]) board.addEventListener(name, () => { this.pen = null; });
      const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
      board.addEventListener("keydown", (event) => {
        const move = moves[event.key];
        if (move) {
          this.at = this.at.map((place, axis) => Math.min(1, Math.max(0, place + move[axis])));
          if (event.shiftKey && this.strokes.length) this.strokes.at(-1).points.push([...this.at]);
        } else if (event.key === " ") {
          this.strokes.push({ size: this.size, points: [[...this.at]] });
        } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
          this.strokes.pop();
        } else {
          return;
        }
        event.preventDefault();
        this.draw(true);
      });
      board.addEventListener("focus", () => this.draw(board.matches(":focus-visible")));
      board.addEventListener("blur", () => this.draw());
    }
  }

  globalThis.Mask = Mask;
})();
