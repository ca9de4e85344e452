"""The guides: one page each, in the order in which they are offered. The texts are in `templates/proxy/guides/`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guide:
    slug: str
    title: str
    summary: str
    icon: str

    @property
    def template(self) -> str:
        return f"proxy/guides/{self.slug}.html"


GUIDES = (
    Guide("quick-start", "Quick start", "From an account to the first answer in three steps.", "zap"),
    Guide("curl", "curl", "Every endpoint from a terminal: chat, streams, images, speech.", "terminal"),
    Guide("python", "Python", "The official OpenAI SDK, streams, costs, retries.", "book-open"),
    Guide("node", "Node", "The official OpenAI SDK for JavaScript and TypeScript.", "book-open"),
    Guide("anthropic", "Anthropic SDK", "The same models in the shape of the Messages API.", "plug"),
    Guide("langchain", "LangChain", "Chat models, embeddings and agents.", "link"),
    Guide("vercel-ai-sdk", "Vercel AI SDK", "Streaming answers in Next.js and other frameworks.", "activity"),
    Guide("llm", "llm", "Simon Willison's command-line tool.", "terminal"),
    Guide("errors", "Errors", "Every error code: what it means, what to do.", "circle-alert"),
)
BY_SLUG = {guide.slug: guide for guide in GUIDES}
