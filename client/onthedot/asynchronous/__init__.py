"""The client for asyncio. `onthedot.synchronous` is made from it by `make docs`."""
