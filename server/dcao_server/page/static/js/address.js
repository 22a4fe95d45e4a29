// The address after the #: which view, and its state, so that what is seen can be sent to somebody else.

const decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

/** {parts, query}: "#/vision/resnet18?from=100" is ["vision", "resnet18"] and a URLSearchParams. */
export function readAddress() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

/** The address of a view; absent and empty values are left out, lists are repeated. */
export function addressOf(parts, values = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "" && one !== false) query.append(name, one);
    }
  }
  const text = query.toString().replaceAll("%2F", "/");
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Writes a view's state into the address without leaving the view or adding to the history. */
export function keepInAddress(parts, values) {
  const address = addressOf(parts, values);
  if (location.hash !== address) history.replaceState(null, "", address);
}
