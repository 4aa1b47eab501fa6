"""Orders: how much of what, and what it costs."""

from shop.prices import price_cents, shipping_cents


def order_cents(lines):
    """The cost of an order, a mapping of item to amount, with shipping."""
    goods = sum(price_cents(item) * amount for item, amount in lines.items())
    return goods + shipping_cents(goods)


if __name__ == "__main__":
    order = {"apple": 4, "lamp": 1}
    print(f"{order_cents(order) / 100:.2f}")
