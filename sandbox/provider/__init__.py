"""The simulated provider: OpenAI's shapes, canned answers, real token counts, and faults on request.

`SANDBOX_KEY=… python -m sandbox.provider --port 8700` serves, to `Authorization: Bearer $SANDBOX_KEY` only:
`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/moderations`, `/v1/responses`, `/v1/responses/{id}`,
`/v1/images/generations`, `/v1/models`, `/v1/models/{id}`.
`/health` is open. `/__sandbox/requests` lists what came in and how it ended (`?tag=` filters, DELETE forgets).

Directives, separated by `;`, come in the header `x-sandbox` or in the prompt between `[[` and `]]`. N counts content
events from 1; times are `2s` or `50ms`.

What it says      say=TEXT · words=N · tools (a tool call only) · reasoning=N (that many hidden tokens)
                  says=failed · searches=N (a failed response, N web searches) · tier=NAME (the answer's service tier)
                  images=N (so many of the image tool; without it one, where the words ask for a picture)
                  prompt-tokens=N · completion-tokens=N · cached-tokens=N (state the usage)
Time              delay=T before the head · slow=T between words · drip=T a byte at a time
                  hang (never answers) · hang=headers (head, then silence) · stall=N (silence after N events)
Status            status=CODE (OpenAI's error) · retry-after=SECONDS · html or html=CODE · redirect or redirect=URL
                  error=N (an error event after N events)
Connection        reset=headers (200, then RST) · reset=N (RST after N events) · cut=N (closed after N events)
                  cut=data:N, cut=json:N, cut=utf8:N (closed inside event N: its `data:`, its JSON, a character)
                  end=N (ends cleanly after N events, as if that were all)
Usage             no-usage · usage=twice, every, content (where it is sent) ·
                  usage=null, zero, negative, string, huge, nan, float, bool, list (what it says)
Shape             done=twice, missing · crlf · comments · nul (U+0000 and a lone surrogate) · duplicate-index
                  line=BYTES (one long line first; 10MB) · gzip · gzip=BYTES (a bomb of that size) · bad-json · empty
                  length=short, long (a wrong content-length) · headers=N (more of them) · early (body not read)
Only sometimes    tag=NAME;times=N: the other directives apply to the first N requests with this tag
"""
