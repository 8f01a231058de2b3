"""Every way things break, each an async function that breaks a stack and mends it again."""
