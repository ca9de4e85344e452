// Pictures from the reader's disk, clipboard or drag: made small enough to send, read without any address of their own.
(() => {
  "use strict";
  const TYPES = /^image\/(png|jpeg|webp|gif)$/;

  const canvasOf = (width, height) => {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    return canvas;
  };
  /* The picture in `blob` on a canvas of at most `side` pixels. */
  const drawn = async (blob, side, background = null) => {
    const picture = await createImageBitmap(blob);
    const scale = Math.min(1, side / Math.max(picture.width, picture.height));
    const canvas = canvasOf(Math.max(1, Math.round(picture.width * scale)), Math.max(1, Math.round(picture.height * scale)));
    const paint = canvas.getContext("2d");
    if (background) {
      paint.fillStyle = background;
      paint.fillRect(0, 0, canvas.width, canvas.height);
    }
    paint.drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    return canvas;
  };
  /* A data URL of at most `bytes` characters, smaller and coarser until it fits. */
  const asDataUrl = async (blob, bytes) => {
    for (const side of [1536, 1024, 768, 512]) {
      const canvas = await drawn(blob, side, "white");
      for (const quality of [0.85, 0.7, 0.5]) {
        const url = canvas.toDataURL("image/jpeg", quality);
        if (url.length <= bytes) return url;
      }
    }
    throw new Error("This picture is too large.");
  };
  const asBlob = (canvas, type = "image/png") => new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture cannot be read."))), type);
  });
  const isPicture = (file) => TYPES.test(file.type);
  /* Calls `take(files)` with what is pasted or dropped on `element`. */
  const receive = (element, take) => {
    element.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])].filter(isPicture);
      if (!files.length) return;
      event.preventDefault();
      take(files);
    });
    element.addEventListener("dragover", (event) => {
      if ([...(event.dataTransfer?.types ?? [])].includes("Files")) event.preventDefault();
    });
    element.addEventListener("drop", (event) => {
      const files = [...(event.dataTransfer?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      take(files.filter(isPicture));
    });
  };

  globalThis.Pictures = Object.freeze({ canvasOf, drawn, asDataUrl, asBlob, isPicture, receive });
})();
