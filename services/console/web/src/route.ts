// Every view has an address: its path, and what is chosen in it as a query.
import { useEffect, useState } from "preact/hooks";

export interface Place {
  path: string;
  query: URLSearchParams;
}

const watchers = new Set<() => void>();

function here(): Place {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

// With `instead` going back does not lead here again.
export function go(address: string, instead = false): void {
  if (address !== location.pathname + location.search) {
    if (instead) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
  }
  for (const watcher of watchers) watcher();
}

export function usePlace(): Place {
  const [place, set] = useState(here);
  useEffect(() => {
    const changed = () => set(here());
    watchers.add(changed);
    addEventListener("popstate", changed);
    return () => {
      watchers.delete(changed);
      removeEventListener("popstate", changed);
    };
  }, []);
  return place;
}

// Links of ours change the view and load nothing.
export function followLinks(): void {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest("a[href]");
    const address = link?.getAttribute("href") ?? "";
    if (!address.startsWith("/") || address.startsWith("/api/") || link?.hasAttribute("target")) return;
    event.preventDefault();
    go(address);
    document.getElementById("view")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  });
}

export function mapAddress(network: string, prefix = "", mark = ""): string {
  const values = new URLSearchParams();
  if (prefix) values.set("prefix", prefix);
  if (mark) values.set("mark", mark);
  const text = values.toString();
  return `/map/${encodeURIComponent(network)}${text && `?${text}`}`;
}

export function nodeAddress(node: string): string {
  return `/nodes/${encodeURIComponent(node)}`;
}
