"""Prices of what the shop sells, in cents."""

PRICES = {"apple": 45, "bread": 320, "lamp": 2490}

FREE_SHIPPING_CENTS = 5000


def price_cents(item):
    if item not in PRICES:
        raise KeyError(f"no such item: {item}")
    return PRICES[item]


def shipping_cents(total_cents):
    return 0 if total_cents >= FREE_SHIPPING_CENTS else 490
