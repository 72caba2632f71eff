// The frame of the page: head, navigation, key, help, messages; and in it the view that the address names.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { apiKey, isKeyRefused, setApiKey } from "./api/client";
import { address, go, href } from "./router";
import { readMe } from "./store/person";
import { nextTheme, theme } from "./store/theme";
import { Button, Messages } from "./ui/controls";
import { Dialog } from "./ui/dialog";
import { bindings, useKeys } from "./ui/keys";
import { NAVIGATION, viewOf } from "./views";

export function App(): JSX.Element {
  const [shown, setShown] = useState<"key" | "help" | null>(null);
  const { parts } = address.value;
  const found = viewOf(parts);
  const title = found?.view.title(found.names) ?? "Not found";
  useEffect(() => {
    document.title = `${title} · firmplan`;
  }, [title]);
  useEffect(() => void readMe(), []);
  useEffect(() => {
    if (isKeyRefused.value) setShown("key");
  }, [isKeyRefused.value]);
  useKeys([
    { keys: "?", what: "Show these keys", run: () => setShown("help") },
    { keys: "k", what: "Enter the API key", run: () => setShown("key") },
    { keys: "t", what: "Change between the system's, the light and the dark theme", run: nextTheme },
    ...NAVIGATION.map(({ part, name, keys }) => ({ keys, what: `Go to ${name}`, run: () => go([part]) })),
  ]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), focusMain())}>
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href={href(["runs"])}>
          <img src="page/icon.svg" alt="" width="20" height="20" />
          firmplan
        </a>
        <nav aria-label="Views">
          {NAVIGATION.map(({ part, name }) => (
            <a key={part} href={href([part])} aria-current={(parts[0] ?? "runs") === part ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <span class="grow" />
        <a class="soft api" href="openapi.json">
          API
        </a>
        <Button look="quiet" onClick={() => setShown("key")}>
          {apiKey.value ? "Key set" : "Key"}
        </Button>
        <Button look="quiet" onClick={nextTheme} aria-label={`Theme: ${theme.value}`} title="Theme">
          {{ auto: "◐", light: "☀", dark: "☾" }[theme.value]}
        </Button>
        <Button look="quiet" onClick={() => setShown("help")} aria-label="Keys" title="Keys">
          ?
        </Button>
      </header>
      {found ? (
        found.view.show(found.names)
      ) : (
        <main class="page" id="main">
          <h1>There is nothing here</h1>
          <a href={href(["runs"])}>All runs</a>
        </main>
      )}
      {shown === "key" ? <KeyDialog onClose={() => setShown(null)} /> : null}
      {shown === "help" ? <Help onClose={() => setShown(null)} /> : null}
      <Messages />
    </>
  );
}

function focusMain(): void {
  const main = document.getElementById("main");
  main?.setAttribute("tabindex", "-1");
  main?.focus();
}

function KeyDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const [key, setKey] = useState(apiKey.value);
  return (
    <Dialog title="API key" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          setApiKey(key.trim());
          onClose();
          // What was asked without the key is asked again.
          location.reload();
        }}
      >
        {isKeyRefused.value ? <p class="warning">The server wants a key, or does not know this one.</p> : null}
        <label class="field">
          Key
          <input type="password" autoComplete="off" value={key} onInput={(event) => setKey(event.currentTarget.value)} placeholder="none needed on this machine" />
        </label>
        <p class="soft">It stays in this tab's session storage until the tab is closed.</p>
        <div class="row">
          <Button look="primary" type="submit">
            Use it
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Help({ onClose }: { onClose: () => void }): JSX.Element {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <dl class="keys">
        {bindings.value.map(({ keys, what }) => (
          <div key={keys}>
            <dt>
              {keys.split(" ").map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
