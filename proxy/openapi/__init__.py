"""The OpenAPI description of `/v1`: what drf-spectacular finds of the management API, and hand-kept texts.

`paths/*.yaml` say what no code can: the metered endpoints' fields, examples, and each answer's shape. They are merged
over what was generated, so a new endpoint is listed at once and described when somebody writes its lines.
"""
