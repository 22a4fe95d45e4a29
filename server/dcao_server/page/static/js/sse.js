// Server-sent events over fetch. EventSource cannot send an Authorization header nor set Last-Event-ID at the start.

/**
 * Calls onEvent({id, event, data}) for each event of a response body; ends when the body does.
 * Comment lines and retry hints are skipped, as the HTML standard (section 9.2.6) has it.
 */
export async function readEvents(body, onEvent, onBytes = () => {}) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  let event = blank();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onBytes();
    buffer += value;
    const lines = buffer.split(/\r\n|\n|\r/);
    buffer = lines.pop();
    for (const line of lines) event = take(line, event, onEvent);
  }
}

const blank = () => ({ id: null, event: "message", data: [] });

function take(line, event, onEvent) {
  if (line === "") {
    if (event.data.length) onEvent({ id: event.id, event: event.event, data: event.data.join("\n") });
    return blank();
  }
  if (line.startsWith(":")) return event;
  const colon = line.indexOf(":");
  const field = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (field === "data") event.data.push(value);
  else if (field === "id") event.id = value;
  else if (field === "event") event.event = value;
  return event;
}
