// What refusals say.

/** What was wrong, out of an answer that says so; an event stream says it in a comment. */
export async function problem(answer) {
  const { status, headers } = answer, [, detail] = /"detail":("([^"\\]|\\.)*")/.exec(await answer.text().catch(() => '')) ?? [];
  const after = headers.get('Retry-After');
  return Object.assign(Error(detail ? JSON.parse(detail) : 'status ' + status), {
    status,
    _wait: after && (+after * 1000 || Date.parse(after) - Date.now()),
  });
}
