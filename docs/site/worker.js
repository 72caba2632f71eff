// The search runs in a worker, which browsers refuse to pages that are files. There a hidden frame stands in for the worker;
// pages that come from a server keep their browser's own.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const base = new URL(url, location.href);
      this.onmessage = null;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      const inner = frame.contentWindow;
      const load = (address) =>
        new Promise((done, failed) => {
          const script = inner.document.createElement("script");
          script.src = new URL(address, base).href;
          script.onload = done;
          script.onerror = () => failed(new Error(`cannot load ${address}`));
          inner.document.head.appendChild(script);
        });
      inner.importScripts = async (...addresses) => {
        for (const address of addresses) await load(address);
      };
      inner.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        if (this.onmessage) this.onmessage(event);
        this.dispatchEvent(event);
      };
      this.inner = inner;
      this.frame = frame;
      this.ready = load(base);
    }

    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
