"""Units of numbers, each with its canonical name in the grader.

An answer may omit a unit, but not change it: "5" is right for "5 km", "5 miles" is not.
"""

_NAMES = {
    "percent": "percent % percentage",
    "dollar": "dollar dollars $ usd buck bucks",
    "cent": "cent cents ¢",
    "euro": "euro euros € eur",
    "pound": "pound pounds £ gbp lb lbs",
    "yen": "yen ¥ jpy",
    "rupee": "rupee rupees ₹ inr",
    "am": "am",
    "pm": "pm",
    "bc": "bc bce",
    "ad": "ad ce",
    "celsius": "celsius centigrade c",
    "fahrenheit": "fahrenheit f",
    "year": "year years yr yrs",
    "month": "month months",
    "week": "week weeks",
    "day": "day days",
    "hour": "hour hours hr hrs h",
    "minute": "minute minutes min mins",
    "second": "second seconds sec secs s",
    "millimeter": "mm millimeter millimeters millimetre millimetres",
    "centimeter": "cm centimeter centimeters centimetre centimetres",
    "meter": "m meter meters metre metres",
    "kilometer": "km kilometer kilometers kilometre kilometres",
    "inch": "inch inches",
    "foot": "ft foot feet",
    "yard": "yd yard yards",
    "mile": "mi mile miles",
    "gram": "g gram grams",
    "kilogram": "kg kilogram kilograms kilo kilos",
    "ton": "ton tons tonne tonnes",
    "ounce": "oz ounce ounces",
    "liter": "l liter liters litre litres",
}
UNITS = {word: name for name, words in _NAMES.items() for word in words.split()}
"""Canonical name of the unit, by word or sign."""

MERE_SIGNS = frozenset(
    "percent dollar euro pound yen rupee celsius fahrenheit decade century".split()
)
"""Units that do not count as content, since their signs are not words: "$5", "5 dollars"."""

NEED_A_DEGREE = frozenset(("c", "f"))
"""Words that name a unit only after "degrees"."""
