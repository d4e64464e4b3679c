"""From annotations to multi-turn talk. The engine is behind `ConversationGenerator`; the checks are not."""
